"""Types that are part of the interface to applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

#: `[name, value]`, the name in lower case. A list because the interface's documents show lists.
HeaderField: TypeAlias = list[bytes]

#: Headers from applications: lists or tuples, names in any case.
Headers: TypeAlias = Iterable[Sequence[bytes]]

#: A message of the channels interface: a dict with text keys.
Message: TypeAlias = dict[str, Any]


#: An event for ASGI's `send` that our own server understands: abort the response, for `reason`, so that it does not
#: look complete. The server sets `taken` in it, since a middleware may drop the event.
BREAK_OFF: Final = "uvicorn.break_off"


class SharedText(str):
    """Text for many clients: never compressed, so that one encoded frame serves all of them."""


class SharedBytes(bytes):
    """Bytes for many clients, like SharedText."""


@runtime_checkable
class GroupMember(Protocol):
    """The methods of a reply channel that groups need.

    All are called on the thread of the channel's event loop; its identifier may be an attribute `loop_thread`. Reply
    channels of other servers have fewer methods and are wrapped (`uvicorn.broadcast.host_reply`).
    """

    @property
    def name(self) -> str:
        """Unique among all channels of all processes."""

    @property
    def is_ready(self) -> bool:
        """Whether a message sent now goes to the client without waiting. If False or unknown, messages are sent one at
        a time, each after the previous one has been awaited."""

    def offer_text(self, text: str) -> bool:
        """Send `{'text': text}` if no waiting is needed; return whether it was sent."""

    def send(self, message: Message) -> Awaitable[None] | None:
        """Send a message; the caller awaits the result unless it is None.

        Raises LocalProtocolError for an invalid message, and ClientDisconnected if the client has disconnected.
        """

    async def wait_ready(self) -> None:
        """Wait until a message can be sent, or the client has disconnected."""

    def break_off(self, reason: str) -> None:
        """Abort the connection now: a WebSocket with 1013, a response so that it does not look complete."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once when the client disconnects for any reason; at once if it has disconnected already."""
