"""The base class of HTTP gateways and of WebSocket gateways."""

from __future__ import annotations

from collections.abc import Callable


class Gateway:
    """Connects an exchange or a session to a client or to another server."""

    __slots__ = ()

    #: Whether the write buffer is above its high-water mark; `drain` waits until it is not.
    write_paused = False

    async def drain(self) -> None:
        """Wait until `write_paused` is false or the client has disconnected."""

    def last_send(self) -> Callable[[], object] | None:
        """If writing is paused, return a function that marks the last send as awaited. Otherwise return None.

        Call the function when the application awaits the send.
        """
        return None
