"""Every exception of the project, sorted by whose fault it is.

UvicornError
├── ConfigError                 the person who started the server can mend it
│   ├── ImportFromStringError   'module:attribute' leads nowhere
│   └── InterfaceError          the application speaks no interface we know
├── StartupError                the application's own startup failed
├── ProtocolError
│   ├── LocalProtocolError      the application broke the contract
│   └── RemoteProtocolError     the client broke the protocol; says which status to refuse with
│       └── WebSocketProtocolError  on an open WebSocket; says which code to close with
├── BroadcastError
│   └── BroadcastUnavailable    a message could not be handed to what carries it, in time
├── ApplicationError            an application behind an adapter raised what its host would misread
├── ResponseAborted             a response that went through an adapter was broken off
└── ClientDisconnected          the client left before its request was whole

ChannelClosed (a CancelledError) stands apart: it ends a handler quietly, as cancelling it would.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from uvicorn.escape import escaped

if TYPE_CHECKING:
    from uvicorn.cancellation import ChannelClosed as ChannelClosed


class UvicornError(Exception):
    """Base of everything that the project raises."""


class ConfigError(UvicornError):
    """A setting, an address or an application that cannot be used; the message says what to do."""


class ImportFromStringError(ConfigError):
    """`module:attribute` could not be resolved; a failure inside the module itself is the `__cause__`."""


class InterfaceError(ConfigError):
    """The application's signature fits no interface, or one that is not served."""


class StartupError(UvicornError):
    """The application's own startup failed; what it raised has been logged."""


class ProtocolError(UvicornError):
    """Somebody broke the rules of a protocol."""


class LocalProtocolError(ProtocolError):
    """The application sent something that cannot be put on the wire honestly."""


class RemoteProtocolError(ProtocolError):
    """The client sent something that is refused.

    `status_hint` is the status code to answer with. The message is constant text and numbers of ours,
    never the client's bytes, so it may be logged as it stands.
    """

    def __init__(self, message: str, status_hint: int = 400) -> None:
        super().__init__(message)
        self.status_hint = status_hint


class WebSocketProtocolError(RemoteProtocolError):
    """The client broke the WebSocket protocol, or a limit, after the handshake.

    `code` is what to close with: 1002, 1007 or 1009 (RFC 6455, section 7.4.1). `reason` is short enough for a close
    frame and, like the message, never the client's bytes.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


class BroadcastError(UvicornError):
    """Something about broadcasting to groups failed."""


class BroadcastUnavailable(BroadcastError):
    """A message was not handed to what carries it, in time: most probably nobody hears it.

    It is never sent again by itself, since it may have arrived all the same.
    """

    #: Whether that messages are not taken has been logged, in one line for all of them.
    reported = False


class ApplicationError(UvicornError):
    """The application behind an adapter raised an exception that its host would misread; that one is the `__cause__`.

    An OSError, which hosts take for a client that has gone; SystemExit, KeyboardInterrupt or another exception that is
    not an Exception, which end a host or its thread; StopIteration, which ends an iteration.
    """

    @classmethod
    def of(cls, error: BaseException) -> ApplicationError:
        """One with `error` as its cause."""
        made = cls(f"the application raised {type(error).__name__}: {escaped(error)}")
        made.__cause__ = error
        return made


class ResponseAborted(UvicornError):
    """A response that went through an adapter was broken off without an exception of the application: see the log.

    Raised to the caller of the adapter, so that the response is broken off there too. An exception of the application
    is raised to that caller itself.
    """


class ClientDisconnected(UvicornError, ConnectionError):
    """The request's content ended early: what was received so far is not the whole of it.

    An OSError too, which is what frameworks expect of reading from a client that has gone.
    """


def __getattr__(name: str) -> Any:
    # It is one of asyncio's own, which a supervisor does without: that takes 6 MiB less.
    if name == "ChannelClosed":
        return importlib.import_module("uvicorn.cancellation").ChannelClosed
    raise AttributeError(f"module 'uvicorn.errors' has no attribute {name!r}")
