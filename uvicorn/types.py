"""Names for the shapes that applications see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

#: `[name, value]`, the name in lower case. A list because the interface's documents show lists.
HeaderField: TypeAlias = list[bytes]

#: What applications may hand us: lists or tuples, names in any case.
Headers: TypeAlias = Iterable[Sequence[bytes]]

#: A message of the channels interface: a dict with text keys.
Message: TypeAlias = dict[str, Any]


#: An event for ASGI's `send` that our own server knows: the response is broken off, for `reason`, so that it does not
#: look complete. The server sets `taken` in it; a middleware may have swallowed it.
BREAK_OFF: Final = "uvicorn.break_off"


class SharedText(str):
    """Text on its way to many clients: never compressed, so that one frame does for all of them."""


class SharedBytes(bytes):
    """Bytes on their way to many clients, like SharedText."""


@runtime_checkable
class GroupMember(Protocol):
    """What groups need of a reply channel, of whatever kind: all of it.

    Everything is called on the thread of the channel's event loop. Reply channels of other servers have less; they are
    wrapped (`uvicorn.broadcast.host_reply`).
    """

    @property
    def name(self) -> str:
        """Unique among all channels of all processes."""

    @property
    def is_ready(self) -> bool:
        """Whether a message that is sent now goes to the client, and need not be awaited. False if that is not known:
        then messages are sent one after another, each when the last one has been awaited."""

    def offer_text(self, text: str) -> bool:
        """Send `{'text': text}` if it goes to the client now; return whether it did."""

    def send(self, message: Message) -> Awaitable[None] | None:
        """Send a message. What it returns is awaited, if anything.

        Raises LocalProtocolError for a message that the client cannot be sent, and ClientDisconnected when it has gone.
        """

    async def wait_ready(self) -> None:
        """Wait until a message can be sent, or the client has gone."""

    def break_off(self, reason: str) -> None:
        """End the connection, now: a WebSocket with 1013, a response so that it does not look complete."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have `callback()` called once, when the client has gone, however it went; at once if it has."""
