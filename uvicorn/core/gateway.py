"""The base class of all gateways."""

from __future__ import annotations

from collections.abc import Callable


class Gateway:
    """Connects an exchange or a session to its client."""

    __slots__ = ()

    #: Whether the write buffer is above its high-water mark; `drain` waits until it is not.
    write_paused = False

    async def drain(self) -> None:
        """Wait until `write_paused` is false or the client has disconnected."""

    def last_send(self) -> Callable[[], object] | None:
        """Return a function to call when the application awaits its latest send."""
        return None
