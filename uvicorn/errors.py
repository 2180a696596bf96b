"""The project's exceptions, grouped by the party at fault.

UvicornError
├── ConfigError                 the user can correct it: a setting, an address, a module
│   ├── UnknownKeywordError     `Config` has no such keyword
│   ├── ImportFromStringError   'module:attribute' cannot be imported
│   └── InterfaceError          the application's interface is unknown
├── StartupError                the application's startup failed
├── ProtocolError
│   ├── LocalProtocolError      the application broke the contract
│   │   └── MessageTooLarge     a message to a group exceeds the size limit
│   └── RemoteProtocolError     the client broke the protocol
│       └── WebSocketProtocolError  the client broke the protocol of an open WebSocket
├── BroadcastError
│   └── BroadcastUnavailable    a message could not be passed to the backend in time
├── ApplicationError            replaces an exception that servers treat specially
├── ResponseAborted             an adapter cannot complete a response
└── ClientDisconnected          the client disconnected before its request was complete

ChannelClosed is a subclass of CancelledError, not of UvicornError.
"""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from uvicorn.escape import escaped

if TYPE_CHECKING:
    from uvicorn.cancellation import ChannelClosed as ChannelClosed


class UvicornError(Exception):
    """Base class of the project's exceptions."""


class ConfigError(UvicornError):
    """An invalid setting, address or application. The message names the fix."""


class UnknownKeywordError(ConfigError, TypeError):
    """A keyword that `Config` does not have."""


class ImportFromStringError(ConfigError):
    """`module:attribute` cannot be imported. If the module raised an exception, this exception is the `__cause__`."""


class InterfaceError(ConfigError):
    """The application's signature matches no supported interface."""


class StartupError(UvicornError):
    """The application's startup failed. The failure has been logged."""


class ProtocolError(UvicornError):
    """The application or the client broke the rules of a protocol."""


class LocalProtocolError(ProtocolError):
    """The application sent an invalid or out-of-order message."""


class MessageTooLarge(LocalProtocolError):
    """A message to a group exceeds the size limit. Logs show this error at the level WARNING."""


class RemoteProtocolError(ProtocolError):
    """The client sent a malformed request or exceeded a limit. The message never contains the client's bytes.

    `status_hint` is the status code of the response.
    """

    def __init__(self, message: str, status_hint: int = 400) -> None:
        super().__init__(message)
        self.status_hint = status_hint


class WebSocketProtocolError(RemoteProtocolError):
    """The client broke the WebSocket protocol, or exceeded a limit, after the handshake.

    `code` is the close code: 1002, 1007 or 1009 (RFC 6455, section 7.4.1). `reason` fits into a close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


class BroadcastError(UvicornError):
    """A broadcast operation failed."""


class BroadcastUnavailable(BroadcastError):
    """A message could not be passed to the backend in time. The message probably reaches no subscriber."""

    #: Whether the outage has been logged, once for all messages.
    reported = False


class ApplicationError(UvicornError):
    """Raised by an adapter in place of an exception that servers treat specially, such as OSError or SystemExit.

    `__cause__` is the exception of the application.
    """

    @classmethod
    def of(cls, error: BaseException) -> ApplicationError:
        """Return an ApplicationError whose `__cause__` is `error`."""
        made = cls(f"the application raised {type(error).__name__}: {escaped(error)}")
        made.__cause__ = error
        return made


class ResponseAborted(UvicornError):
    """An adapter raises this error for an incomplete response, so that the adapter's caller aborts the response."""


class ClientDisconnected(UvicornError, ConnectionError):
    """The client disconnected before the request was complete, or the WebSocket has ended. This error is an OSError.

    `code` and `reason` describe the end of the WebSocket. Without a close frame, `code` is 1006.
    """

    def __init__(self, message: str = "", code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


_OUR_FOLDER: Final = os.path.dirname(__file__) + os.sep


def without_our_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of `error` without this package's entries, or None if no entry remains."""
    traces = []
    trace = error.__traceback__
    while trace is not None:
        traces.append(trace)
        trace = trace.tb_next
    # If this package has raised an exception other than UvicornError, the fault is ours.
    if traces and not isinstance(error, UvicornError) and _is_ours(traces[-1]):
        return error.__traceback__
    shown = None
    for trace in reversed(traces):
        if not _is_ours(trace):
            shown = TracebackType(shown, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    return shown


def exc_info_of(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType] | None:
    """Return `exc_info` for the log, without this package's traceback entries."""
    trace = without_our_frames(error)
    if trace is None and isinstance(error, UvicornError):
        return None if error.__cause__ is None else exc_info_of(error.__cause__)
    return type(error), error, trace  # type: ignore[return-value]


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_OUR_FOLDER)


def __getattr__(name: str) -> Any:
    # Imported on first use: it needs asyncio, and a supervisor without asyncio saves 6 MiB.
    if name == "ChannelClosed":
        return importlib.import_module("uvicorn.cancellation").ChannelClosed
    raise AttributeError(f"module 'uvicorn.errors' has no attribute {name!r}")
