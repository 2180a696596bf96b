"""Types that are part of the interface to applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NotRequired, Protocol, TypeAlias, TypedDict, runtime_checkable
from wsgiref.types import WSGIApplication

# Besides these, names that other layers share.
__all__ = [
    "ASGIApplication", "BodyChannel", "Channels", "ChannelsApplication", "Consumer", "GroupsChannel", "HeaderField",
    "Headers", "Message", "Receive", "ReplyChannel", "Scope", "Send", "WSGIApplication",
]  # fmt: skip

#: `[name, value]`, the name in lower case. A list because the interface's documents show lists.
HeaderField: TypeAlias = list[bytes]

#: Headers from applications: lists or tuples, names in any case.
Headers: TypeAlias = Iterable[Sequence[bytes]]

#: A message of the channels interface: a dict with text keys.
Message: TypeAlias = dict[str, Any]

#: A function that is called without arguments, and whose result is ignored.
Callback: TypeAlias = Callable[[], object]


class ReplyChannel(Protocol):
    """`channels['reply']` of a channels application, and `message['reply_channel']` of a consumer."""

    @property
    def name(self) -> str:
        """The channel's name, unique across all processes."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send a response, a chunk or a WebSocket message. Awaiting is optional. Raises LocalProtocolError."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once, when the response or WebSocket ends, or the client half-closes the connection."""


class BodyChannel(Protocol):
    """`channels['body']` of a request with content."""

    @property
    def name(self) -> str:
        """The channel's name, unique across all processes."""

    async def receive(self) -> Message:
        """Return the next chunk, `{'content': bytes, 'more_content': bool}`.

        If the client disconnects before the end, return `{'closed': True, 'more_content': False}`. Reading 'content'
        from this message raises ClientDisconnected.
        """


class GroupsChannel(Protocol):
    """`channels['groups']` of an application in a BroadcastMiddleware."""

    @property
    def name(self) -> str:
        """The name of this client's reply channel."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send `{'group': group, 'add': channel_name, 'discard': channel_name, 'send': message}`.

        At least one of the last three keys is required.
        """

    def on_gap(self, callback: Callable[[Message], object]) -> None:
        """Call `callback(event)` when messages may have been lost."""


class Channels(TypedDict):
    """The second argument of a channels application."""

    reply: ReplyChannel
    #: For requests with content only.
    body: NotRequired[BodyChannel]
    #: In a BroadcastMiddleware only. Declared as present, because an application knows whether it runs in one.
    groups: GroupsChannel


ChannelsApplication: TypeAlias = Callable[[Message, Channels], Awaitable[None]]
Consumer: TypeAlias = Callable[[Message], Awaitable[None] | None]

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: An event for ASGI's `send`: abort the response. Our server sets `taken` in it, since a middleware may drop the event.
BREAK_OFF: Final = "uvicorn.break_off"


# Compression would give each client a frame of its own.
class SharedText(str):
    """Text that the server sends to many clients uncompressed."""


class SharedBytes(bytes):
    """Bytes that the server sends to many clients uncompressed."""


# Optional attribute: `loop_thread`, the identifier of the event loop's thread.
@runtime_checkable
class GroupMember(Protocol):
    """A reply channel that can join groups. Methods are called on the channel's event loop."""

    @property
    def name(self) -> str:
        """The channel's name, unique across all processes."""

    @property
    def is_ready(self) -> bool:
        """Whether a message can be sent without waiting."""

    def offer_text(self, text: str) -> bool:
        """Send `{'text': text}` if no waiting is needed. Return whether the text was sent."""

    def send(self, message: Message) -> Awaitable[None] | None:
        """Send a message. Raises LocalProtocolError or ClientDisconnected."""

    async def wait_ready(self) -> None:
        """Wait until a message can be sent, or the client has disconnected."""

    def break_off(self, reason: str) -> None:
        """Close the WebSocket with code 1013, reject an open handshake with 503, or abort the response."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` when the response or WebSocket ends. If it has ended, call `callback()` now."""
