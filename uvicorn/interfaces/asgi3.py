"""Calls ASGI 3 and ASGI 2 applications."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from io import FileIO
from typing import Any, Final, final

from uvicorn.channel import DONE, SENDS_IN_A_ROW, LazyAwaitable, let_others_run, shape
from uvicorn.core.exchange import CLOSED, COMPLETE, STREAMING, WAITING, HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.asgi3_websocket import WebSocketCall
from uvicorn.interfaces.base import Interface, fill_template, handshake_keys, request_template
from uvicorn.interfaces.handlers import ASGI_FAILURE, answer_failure, cancel_after_end, watch_handshake
from uvicorn.interfaces.lifespan import Lifespan
from uvicorn.settings import Settings
from uvicorn.types import BREAK_OFF, Headers, Message

logger = logging.getLogger("uvicorn.app")

#: `spec_version` in the scopes of WebSockets and of the lifespan.
SPEC_VERSION: Final = "2.5"

#: `spec_version` in the scopes of HTTP. From 2.4 on, Starlette ends a stream only when its `send` raises.
HTTP_SPEC_VERSION: Final = "2.3"

# Events that are dropped after the client has disconnected.
_RESPONSE_EVENTS: Final = frozenset(f"http.response.{name}" for name in ("body", "pathsend", "start", "trailers"))


@final
class HTTPCall:
    """Provides `receive` and `send` to an ASGI application for one request."""

    # Initial values are in the class, because most calls never change them, and each request makes a call.

    #: The task of the application; None before its first suspension, at which the interface calls `flush`.
    task: asyncio.Task[Any] | None = None
    #: The error of `flush` if it could not send the start of the response; the application's next send raises it.
    fault: LocalProtocolError | None = None
    # The start of the response, held until the first content so that both leave in one write.
    _headers: Headers | None = None
    _status = 0
    # The trailers received so far; None if the start of the response has not announced any.
    _trailers: list[Any] | None = None
    _body_ended = False
    _content_ended = False
    offers_pathsend = False
    # Whether an event has been dropped because the client has disconnected.
    _has_dropped = False

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange

    @property
    def holds_start(self) -> bool:
        return self._headers is not None

    async def receive(self) -> Message:
        """Return the next event: `http.request` until the content ends, then `http.disconnect`."""
        exchange = self._exchange
        if not self._content_ended and exchange.state is not COMPLETE:
            try:
                content, more_content = exchange.receive_now() or await exchange.receive_later()
            except ClientDisconnected:
                return {"type": "http.disconnect"}
            self._content_ended = not more_content
            return {"type": "http.request", "body": content, "more_body": more_content}
        await exchange.wait_disconnect()
        return {"type": "http.disconnect"}

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a response event. Await the result to wait for a slow client."""
        exchange = self._exchange
        kind = message.get("type")
        state = exchange.state
        if (state is CLOSED or state is COMPLETE) and kind in _RESPONSE_EVENTS:
            if state is CLOSED:
                return self._send_after_disconnect()
            if exchange.ended_early and kind != "http.response.start":
                return LazyAwaitable(let_others_run)
        if kind == "http.response.body":
            if self._body_ended:
                raise self._misplaced(message)
            more_content = message.get("more_body", False)
            trailers_follow = self._trailers is not None and not more_content
            headers = self._headers
            if headers is not None:
                self._headers = None
                exchange.respond(self._status, headers, message.get("body") or b"", more_content or trailers_follow)
                if exchange.state is COMPLETE:
                    return DONE
            elif exchange.state is STREAMING:
                exchange.write(message.get("body") or b"", more_content or trailers_follow)
            else:
                raise self._misplaced(message)
            if trailers_follow:
                self._body_ended = True
        elif kind == "http.response.start":
            if exchange.state is not WAITING or self._headers is not None or self._body_ended:
                raise self._misplaced(message)
            if "status" not in message:
                raise LocalProtocolError(f"send: expected http.response.start with 'status', got {shape(message)}")
            self._status = message["status"]
            self._headers = message.get("headers") or ()
            if "trailers" in message or self._trailers is not None:
                self._trailers = [] if message.get("trailers") else None
            if self.task is not None:
                self.fault = None
                asyncio.get_running_loop().call_soon(self.flush)
            return DONE
        elif kind == "http.response.pathsend" and self._may_send_path():
            self._body_ended = True
            return self._send_path(message["path"])
        elif (
            kind == "http.response.trailers" and self._trailers is not None and self._body_ended and state is STREAMING
        ):
            self._trailers += message.get("headers") or ()
            if not message.get("more_trailers", False):
                exchange.write_trailers(self._trailers)
        elif kind == BREAK_OFF:
            message["taken"] = True
            exchange.break_off(message.get("reason") or "the application aborted the response")
            return DONE
        else:
            raise self._misplaced(message)
        if exchange.state is COMPLETE:
            return DONE
        if exchange.state is CLOSED:
            # The gateway has noticed that the client has disconnected.
            return self._send_after_disconnect()
        exchange.sends += 1
        if exchange.write_paused:
            return LazyAwaitable(self._drain, exchange.gateway.last_send())
        if exchange.sends % SENDS_IN_A_ROW == 0:
            return LazyAwaitable(let_others_run)
        return DONE

    def _send_after_disconnect(self) -> Coroutine[Any, Any, None]:
        if not self._has_dropped:
            # Not suspended here: frameworks cancel the task, which closes a generator only if it is suspended itself.
            self._has_dropped = True
            return DONE
        return LazyAwaitable(self._give_way)

    async def _give_way(self) -> None:
        await asyncio.sleep(0)
        raise ClientDisconnected("the client has disconnected")

    def flush(self) -> None:
        """Send the response head now, without waiting for content."""
        headers = self._headers
        # If the application has returned, the start without content is not a response.
        if headers is not None and self._exchange.state is WAITING and self.task is not None and not self.task.done():
            self._headers = None
            try:
                self._exchange.respond(self._status, headers, b"", True)
            except LocalProtocolError as error:
                self.fault = error

    def _may_send_path(self) -> bool:
        begun = self._headers is not None or self._exchange.state is STREAMING
        return self.offers_pathsend and begun and self._trailers is None and not self._body_ended

    async def _send_path(self, path: str) -> None:
        exchange = self._exchange
        # Taken now, so that `flush` does not send the start while the file is opened: opening may fail.
        headers, self._headers = self._headers, None
        try:
            with await asyncio.get_running_loop().run_in_executor(None, FileIO, path) as file:
                count = os.fstat(file.fileno()).st_size
                if headers is not None:
                    headers = list(headers)
                    lengths = [value for name, value in headers if name.lower() == b"content-length"]
                    if not lengths:
                        headers.append((b"content-length", str(count).encode()))
                    elif lengths[0].isdigit():
                        # The file may have grown since the application measured it.
                        declared = int(lengths[0])
                        if declared > count:
                            raise LocalProtocolError(f"content-length is {declared} but the file has {count} bytes")
                        count = declared
                    exchange.respond(self._status, headers, b"", True)
                await exchange.write_file(file, count)
        except BaseException:
            # If the start has not been sent, the application may send another response.
            self._body_ended = exchange.state is not WAITING
            raise
        if exchange.state is CLOSED:
            raise ClientDisconnected("the client has disconnected")

    async def _drain(self) -> None:
        await self._exchange.drain()
        if self._exchange.state is CLOSED:
            # The event that waited counts as the dropped one.
            await self._send_after_disconnect()

    def _misplaced(self, message: Message) -> Exception:
        exchange = self._exchange
        if self.fault is not None:
            fault, self.fault = self.fault, None
            return fault
        if exchange.state is CLOSED:
            return ClientDisconnected("the client has disconnected")
        if exchange.state is COMPLETE:
            expected = "nothing after the end of the response"
        elif self._body_ended:
            expected = "http.response.trailers" if self._trailers is not None else "nothing after a pathsend"
        elif exchange.state is STREAMING or self._headers is not None:
            expected = "http.response.body"
        else:
            expected = "http.response.start"
        kind = message.get("type")
        found = f"{kind!r:.60}" if kind is not None else f"no 'type' in {shape(message)}"
        return LocalProtocolError(f"send: expected {expected}, got {found}")


class ASGI3Interface(Interface):
    """Calls `app(scope, receive, send)` for requests, WebSockets and the lifespan."""

    name = "asgi3"
    expected = "async def app(scope, receive, send)"
    serves_websockets = True
    # Frameworks have their own rules for origins.
    checks_origin = False
    #: The ASGI version in scopes.
    version = "3.0"

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        super().__init__(app, settings)
        self._lifespan: Lifespan | None = None
        #: What the application's lifespan has left in `scope['state']`; None if the application has no lifespan.
        self.state: dict[str, Any] | None = None

    async def startup(self) -> None:
        if self.settings.lifespan != "off":
            lifespan = Lifespan(self.app, self._asgi(), must_work=self.settings.lifespan == "on")
            if await lifespan.startup():
                self._lifespan = lifespan
                self.state = lifespan.state

    async def shutdown(self, seconds: float) -> None:
        await self.finish_handlers(seconds)
        if self._lifespan is not None:
            await self._lifespan.shutdown(self.settings.graceful_seconds)

    def serve_http(self, exchange: HTTPExchange) -> None:
        endpoint = exchange.endpoint
        template = endpoint.template
        if template is None:
            # It has every key, so that no copy has to grow.
            template = request_template("type", "http", endpoint) | {"asgi": None, "extensions": None}
            if self.state is not None:
                template["state"] = None
            endpoint.template = template
        scope = template.copy()
        scope["asgi"] = {"version": self.version, "spec_version": HTTP_SPEC_VERSION}
        fill_template(scope, exchange)
        # Tuples, as in other servers: applications evaluate `(b"x", b"y") in scope["headers"]`.
        scope["headers"] = list(exchange.pairs or zip(*exchange.fields))  # noqa: B905
        scope["extensions"] = {"http.response.trailers": {}}
        call = HTTPCall(exchange)
        if self.settings.pathsend:
            scope["extensions"]["http.response.pathsend"] = {}
            call.offers_pathsend = True
        if self.state is not None:
            scope["state"] = self.state.copy()
        try:
            called = (
                self.app(scope, call.receive, call.send)
                if self.returns_awaitables
                else self.call_plain(exchange, scope, call.receive, call.send)
            )
            task = self.tasks.start(self.tasks.as_coroutine(called), endpoint)
        except BaseException as error:
            answer_failure(exchange, error, ASGI_FAILURE)
            return
        if not task.done():
            call.task = task
            call.flush()
            self.tasks.on_end(task, partial(_call_ended, call, exchange))
            cancel_after_end(task, exchange, self.settings.disconnect_seconds)
        elif exchange.state is not COMPLETE or task.cancelled() or task.exception() is not None:
            _call_ended(call, exchange, task)

    def serve_websocket(self, session: WebSocketSession) -> None:
        scope = {
            "type": "websocket",
            "asgi": self._asgi(),
            "http_version": session.request.http_version,
            **handshake_keys(session),
            "headers": list(zip(*session.request.fields, strict=True)),
            "extensions": {"websocket.http.response": {}},
        }
        if self.state is not None:
            scope["state"] = self.state.copy()
        call = WebSocketCall(session, self.settings)
        try:
            called = self.app(scope, call.receive, call.send)
            task = self.tasks.start(self.tasks.as_coroutine(called), session.endpoint)
        except BaseException as error:
            call.failed(error)
            return
        self.tasks.on_end(task, call.ended)
        if not task.done():
            watch_handshake(task, session, self.settings)

    def _asgi(self) -> dict[str, str]:
        return {"version": self.version, "spec_version": SPEC_VERSION}


class ASGI2Interface(ASGI3Interface):
    """Serves ASGI 2 applications. Each call is `await app(scope)(receive, send)`."""

    name = "asgi2"
    version = "2.0"

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        super().__init__(lambda scope, receive, send: app(scope)(receive, send), settings)


def _call_ended(call: HTTPCall, exchange: HTTPExchange, task: asyncio.Task[Any]) -> None:
    # Break the reference cycle of a failed task, the frame of `send` and the call, which would keep generators open.
    call.task = None
    if task.cancelled():
        if exchange.state < COMPLETE:
            logger.error("%s: the application was cancelled before its response was complete", exchange)
            exchange.app_failed("the application was cancelled")
        return
    error = task.exception() or call.fault
    if error is not None:
        answer_failure(exchange, error, ASGI_FAILURE)
    elif exchange.state < COMPLETE and exchange.half_closed:
        # The application has returned because it received http.disconnect.
        logger.debug(
            "%s: the client half-closed the connection; the application returned without a complete response", exchange
        )
        exchange.abort("client disconnected")
    elif exchange.state < COMPLETE:
        held = "http.response.body" if call.holds_start else "a response"
        lacking = held if exchange.state is WAITING else "the end of its response"
        logger.error("%s: the application returned without sending %s", exchange, lacking)
        exchange.app_failed("the application returned early")
