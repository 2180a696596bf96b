"""The project's exceptions, grouped by the party at fault.

UvicornError
├── ConfigError                 a setting, an address or the application is invalid
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
└── ClientDisconnected          the client has disconnected, or its WebSocket is closed

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
    """A setting, an address or the application is invalid."""


class UnknownKeywordError(ConfigError, TypeError):
    """A keyword that `Config` does not have."""


class ImportFromStringError(ConfigError):
    """`module:attribute` cannot be imported. `__cause__` is the module's exception, if any."""


class InterfaceError(ConfigError):
    """The application does not fit the chosen interface, or fits none."""


class StartupError(UvicornError):
    """The application's startup failed. The server logs the failure; adapters set it as `__cause__`."""


class ProtocolError(UvicornError):
    """The application or the client broke the rules of a protocol."""


class LocalProtocolError(ProtocolError):
    """The application sent an invalid or out-of-order message."""


class MessageTooLarge(LocalProtocolError):
    """A message to a group exceeds the size limit."""


class RemoteProtocolError(ProtocolError):
    """The client broke the protocol or exceeded a limit. `status_hint` is the response's status code."""

    def __init__(self, message: str, status_hint: int = 400) -> None:
        # The message never contains bytes of the client.
        super().__init__(message)
        self.status_hint = status_hint


class WebSocketProtocolError(RemoteProtocolError):
    """The client broke the WebSocket protocol. The server closes with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        # 1002, 1007 or 1009 (RFC 6455, section 7.4.1). The reason fits into a close frame.
        self.code = code
        self.reason = reason


class BroadcastError(UvicornError):
    """A broadcast operation failed."""


class BroadcastUnavailable(BroadcastError):
    """A message could not be passed to the backend in time, and is probably lost."""

    #: Whether the outage has been logged, once for all messages.
    reported = False


class ApplicationError(UvicornError):
    """The application raised an exception that servers treat specially. `__cause__` is this exception."""

    @classmethod
    def of(cls, error: BaseException) -> ApplicationError:
        """Return an ApplicationError whose `__cause__` is `error`."""
        made = cls(f"the application raised {type(error).__name__}: {escaped(error)}")
        made.__cause__ = error
        return made


class ResponseAborted(UvicornError):
    """Raised by an adapter that cannot complete a response."""


class ClientDisconnected(UvicornError, ConnectionError):
    """The client has disconnected, or its WebSocket is closed. `WSGIWebSocket` sets `code` and `reason`."""

    def __init__(self, message: str = "", code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


_OUR_FOLDER: Final = os.path.dirname(__file__) + os.sep


def without_our_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of `error` without this package's frames, unless they caused `error`."""
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
    """Return `exc_info` for a log record, without this package's frames."""
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
