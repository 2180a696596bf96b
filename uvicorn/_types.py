"""ASGI and WSGI types, named as in the public `uvicorn` release."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, TypedDict
from wsgiref.types import StartResponse, WSGIApplication

from uvicorn import types
from uvicorn.types import Message, Scope

__all__ = ["Message", "Scope", "StartResponse"]

HTTPScope: TypeAlias = Scope
WebSocketScope: TypeAlias = Scope
WWWScope: TypeAlias = Scope
LifespanScope: TypeAlias = Scope

ASGIReceiveEvent: TypeAlias = Message
HTTPRequestEvent: TypeAlias = Message
HTTPDisconnectEvent: TypeAlias = Message
WebSocketConnectEvent: TypeAlias = Message
WebSocketReceiveEvent: TypeAlias = Message
WebSocketDisconnectEvent: TypeAlias = Message
LifespanStartupEvent: TypeAlias = Message
LifespanShutdownEvent: TypeAlias = Message

ASGISendEvent: TypeAlias = Message
HTTPResponseStartEvent: TypeAlias = Message
HTTPResponseBodyEvent: TypeAlias = Message
HTTPResponseTrailersEvent: TypeAlias = Message
HTTPResponseDebugEvent: TypeAlias = Message
HTTPResponseEarlyHintEvent: TypeAlias = Message
HTTPServerPushEvent: TypeAlias = Message
WebSocketAcceptEvent: TypeAlias = Message
WebSocketSendEvent: TypeAlias = Message
WebSocketCloseEvent: TypeAlias = Message
WebSocketResponseStartEvent: TypeAlias = Message
WebSocketResponseBodyEvent: TypeAlias = Message
WebSocketEvent: TypeAlias = Message
LifespanStartupCompleteEvent: TypeAlias = Message
LifespanStartupFailedEvent: TypeAlias = Message
LifespanShutdownCompleteEvent: TypeAlias = Message
LifespanShutdownFailedEvent: TypeAlias = Message

ASGIReceiveCallable: TypeAlias = types.Receive
ASGISendCallable: TypeAlias = types.Send


class ASGIVersions(TypedDict):
    """The dict in `scope['asgi']`."""

    spec_version: str
    version: Literal["2.0", "3.0"]


class ASGI2Protocol(Protocol):
    """An ASGI 2 application that is a class."""

    def __init__(self, scope: Scope) -> None: ...

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None: ...


ASGI2Application: TypeAlias = Callable[[Scope], Callable[[ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]]
ASGI3Application: TypeAlias = types.ASGIApplication
ASGIApplication: TypeAlias = ASGI2Application | ASGI3Application

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
WSGIApp: TypeAlias = WSGIApplication
