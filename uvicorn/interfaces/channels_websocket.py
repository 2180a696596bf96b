"""Calls channels applications for each event of a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, Final, final

from uvicorn.channel import (
    DONE,
    DROPS_IN_A_ROW,
    SENDS_IN_A_ROW,
    LazyAwaitable,
    channel_names,
    let_others_run,
    send_from_thread,
    shape,
)
from uvicorn.core.exchange import STREAMING, WAITING
from uvicorn.core.websocket_session import (
    CLOSED,
    CONNECTING,
    OPEN,
    WebSocketListener,
    WebSocketSession,
    check_close,
    check_message,
)
from uvicorn.errors import ChannelClosed, LocalProtocolError
from uvicorn.interfaces.base import handshake_keys
from uvicorn.interfaces.handlers import OWNER, HandlerTasks, answer_failure, cancel_later, log_failure, watch_handshake
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")

# Time for the disconnect handler; after it, sends of the client's other tasks raise even if the handler still runs.
_DISCONNECT_SECONDS: Final = 5.0

# 1 MiB: reading pauses while the messages in handlers of one connection are larger in total; one message may be larger.
_HANDLED_BYTES: Final = 1 << 20

# Every message to a WebSocket has one of these keys.
_MESSAGE_KEYS: Final = frozenset(("accept", "bytes", "close", "text"))


@final
class WebSocketReply:
    """`channels['reply']` of a WebSocket. Tasks and threads may share it."""

    __slots__ = ("__weakref__", "_drops", "_loop", "_name", "_session", "_thread", "_thread_drops", "over")

    def __init__(self, session: WebSocketSession) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._thread = session.endpoint.thread
        self._name = ""
        self._drops = 0
        # Drops of threads that serve this client.
        self._thread_drops = 0
        #: Whether the connection and its disconnect handler have ended.
        self.over = False

    @property
    def name(self) -> str:
        if not self._name:
            self._name = channel_names.new("reply", self)
        return self._name

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a message to the client. Await the result to wait for a slow client (rule R17).

        Keys take effect in this order: `accept`, then `text` or `bytes`, then `close`. `subprotocol` and `headers` are
        options of `accept`. `reason` is an option of `close`. A message with `status` rejects the handshake.

        Raises LocalProtocolError for an invalid message. Raises ChannelClosed after the disconnect handler has ended,
        but only in the client's own tasks (rule R6).
        """
        session = self._session
        # Looking up the running loop is faster than get_ident(); between two runs of the loop, none is running.
        if _get_running_loop() is not self._loop and get_ident() != self._thread:
            return send_from_thread(session.endpoint.loop, self._send_for_thread, message)
        try:
            text = message.get("text")
        except AttributeError:
            raise LocalProtocolError(f"reply.send: expected a dict, got {shape(message)}") from None
        if isinstance(text, str) and len(message) == 1 and session.state is OPEN:
            # The fast path of most messages: the checks of the session's `send_text` have been made.
            gateway = session.gateway
            gateway.send_text(text)
            session.sends += 1
            return self._pace() if gateway.write_paused or session.sends >= SENDS_IN_A_ROW else DONE
        if session.state is CLOSED:
            return self._send_after_disconnect()
        data, close = message.get("bytes"), message.get("close")
        if text is not None and data is not None:
            raise LocalProtocolError("reply.send: expected 'text' or 'bytes', got both")
        code, reason = 0, ""
        if close:
            # Checked before anything is sent: a message is sent whole or not at all.
            code, reason = 1000 if close is True else close, message.get("reason") or ""
            check_close(code, reason)
        if session.state is CONNECTING:
            if session.request.state is not WAITING or "status" in message:
                return self._deny(message)
            if message:
                _check_keys(message)
            accept = message.get("accept")
            if accept is None and not (text or data):
                if not close:
                    # The message decides nothing; the handshake stays open.
                    return DONE
                accept = False
            if accept is not None and not accept:
                session.request.respond(403)
                return DONE
            check_message(text, data)
            session.accept(message.get("subprotocol"), message.get("headers") or ())
        elif "status" in message:
            raise LocalProtocolError(
                f"reply.send: expected a message without 'status', got {shape(message)} in state {session.state.name}"
            )
        else:
            _check_keys(message)
        if text is not None:
            session.send_text(text)
        elif data is not None:
            session.send_bytes(data)
        if code:
            session.close(code, reason)
            return DONE
        session.sends += 1
        return self._pace() if session.write_paused or session.sends >= SENDS_IN_A_ROW else DONE

    @property
    def loop_thread(self) -> int:
        return self._thread

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once when the connection ends (rule R15)."""
        self._session.on_end(callback)

    @property
    def is_ready(self) -> bool:
        return self._session.state is not CONNECTING and not self._session.gateway.write_paused

    def offer_text(self, text: str) -> bool:
        """Send `text` if the client is ready. Return whether `text` was sent."""
        session = self._session
        gateway = session.gateway
        if session.state is not OPEN or gateway.write_paused:
            return False
        # Unchecked: the group has checked the text for all members.
        gateway.send_text(text)
        return True

    async def wait_ready(self) -> None:
        session = self._session
        if session.state is CONNECTING:
            decided = asyncio.Event()
            session.request.on_end(lambda request: decided.set())
            await decided.wait()
        await session.drain()

    def break_off(self, reason: str) -> None:
        """Close an open connection with 1013. Reject a handshake with 503."""
        session = self._session
        if session.state is OPEN:
            session.close(1013, reason)
        elif session.state is CONNECTING and session.request.state is WAITING:
            session.request.respond(503)

    def __repr__(self) -> str:
        return f"<WebSocketReply {self.name} of {self._session!r}>"

    def _deny(self, message: Message) -> Coroutine[Any, Any, None]:
        request = self._session.request
        sent = ReplyChannel(request).send(message)
        waits = request.state is STREAMING and request.write_paused and OWNER.get() is request.endpoint
        return LazyAwaitable(request.drain, request.gateway.last_send()) if waits else sent

    def _pace(self) -> Coroutine[Any, Any, None]:
        session = self._session
        session.sends = 0
        if OWNER.get() is not session.endpoint:
            return DONE
        if session.write_paused:
            return LazyAwaitable(session.drain, session.gateway.last_send())
        return LazyAwaitable(let_others_run)

    def _send_for_thread(self, message: Message) -> Coroutine[Any, Any, None]:
        session = self._session
        if session.state is CLOSED and OWNER.get() is session.endpoint:
            # The disconnect handler of a threaded application waits for this call, which may send in an endless loop.
            self._thread_drops += 1
            if self._thread_drops > DROPS_IN_A_ROW:
                raise ChannelClosed("the client has disconnected")
        return self.send(message)

    def _send_after_disconnect(self) -> Coroutine[Any, Any, None]:
        own = OWNER.get() is self._session.endpoint
        if own and self.over:
            raise ChannelClosed("the client has disconnected")
        self._drops += 1
        # Endless loops of the client's own tasks must let other tasks run; loops over many clients yield rarely.
        return LazyAwaitable(let_others_run) if own or self._drops % DROPS_IN_A_ROW == 0 else DONE


@final
class ChannelsListener(WebSocketListener):
    """Calls the application for each event of one connection."""

    __slots__ = ("_app", "_handled", "_order", "_path", "_reply", "_running", "_session", "_settings", "_tasks")

    def __init__(self, app: Any, session: WebSocketSession, settings: Settings, tasks: HandlerTasks) -> None:
        self._app = app
        self._session = session
        self._settings = settings
        self._tasks = tasks
        self._path = session.request.path
        self._reply = WebSocketReply(session)
        self._order = 0
        # The running receive handlers, each with the size of its message, and the sum of the sizes.
        self._running: dict[asyncio.Task[Any], int] = {}
        self._handled = 0

    def on_connect(self) -> None:
        session = self._session
        headers = session.request.headers
        message = {"channel": "websocket.connect", **handshake_keys(session), "headers": headers, "order": 0}
        task = self._call(message)
        if task is None:
            return
        self._tasks.on_end(task, self._connect_ended)
        if not task.done():
            watch_handshake(task, session, self._settings)

    def on_text(self, text: str) -> None:
        self._receive(text, None, len(text))

    def on_bytes(self, data: bytes) -> None:
        self._receive(None, data, len(data))

    def on_disconnect(self, code: int, reason: str) -> None:
        for running in self._running:
            cancel_later(running, self._settings.disconnect_seconds)
        self._order += 1
        order, path = self._order, self._path
        event = {"channel": "websocket.disconnect", "path": path, "code": code, "reason": reason, "order": order}
        task = self._call(event)
        if task is None:
            self._set_over()
            return
        self._tasks.on_end(task, self._disconnect_ended)
        if not task.done():
            timer = asyncio.get_running_loop().call_later(_DISCONNECT_SECONDS, self._set_over)
            task.add_done_callback(lambda task: timer.cancel())
            cancel_later(task, self._settings.disconnect_seconds)

    def _receive(self, text: str | None, data: bytes | None, size: int) -> None:
        self._order += 1
        event = {"channel": "websocket.receive", "path": self._path, "text": text, "bytes": data, "order": self._order}
        task = self._call(event)
        if task is None:
            return
        if task.done():
            if task.cancelled() or task.exception() is not None:
                self._log_failure(task)
            return
        self._running[task] = size
        self._handled += size
        self._tasks.on_end(task, self._receive_ended)
        if len(self._running) >= self._settings.ws_handlers or self._handled > _HANDLED_BYTES:
            self._session.gateway.pause_receiving()

    def _call(self, message: Message) -> asyncio.Task[Any] | None:
        try:
            return self._tasks.start(self._app(message, {"reply": self._reply}), self._session.endpoint)
        except BaseException as error:
            if self._session.state is CONNECTING:
                answer_failure(self._session.request, error)
            else:
                log_failure(self._session, error)
            return None

    def _connect_ended(self, task: asyncio.Task[Any]) -> None:
        session = self._session
        request = session.request
        if session.state is not CONNECTING:
            self._log_failure(task)
        elif task.cancelled():
            logger.error("%s: the connect handler was cancelled before it accepted or rejected the handshake", session)
            request.app_failed("the handler was cancelled")
        elif (error := task.exception()) is not None:
            answer_failure(request, error)
        elif request.state is WAITING:
            if self._settings.ws_implicit_accept:
                session.accept()
            else:
                logger.error("%s: the connect handler returned without a decision; rejected with 403", session)
                request.respond(403)
        else:
            # Another task may end the denial response that the handler has begun, within `reply_seconds`.
            timer = asyncio.get_running_loop().call_later(self._settings.reply_seconds, self._give_up_denial)
            request.on_end(lambda request: timer.cancel())
        if request.status != 101:
            # No disconnect handler will follow: the client's other tasks get ChannelClosed from now on.
            session.on_end(self._set_over)

    def _receive_ended(self, task: asyncio.Task[Any]) -> None:
        self._handled -= self._running.pop(task)
        self._log_failure(task)
        if self._session.state is OPEN and self._handled <= _HANDLED_BYTES:
            self._session.gateway.resume_receiving()

    def _disconnect_ended(self, task: asyncio.Task[Any]) -> None:
        self._set_over()
        self._log_failure(task)

    def _set_over(self) -> None:
        self._reply.over = True

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # The connection stays open (rule R16).
            log_failure(self._session, error)

    def _give_up_denial(self) -> None:
        request = self._session.request
        logger.error(
            "%s: the connect handler returned and left the response unfinished; the response is aborted", request
        )
        request.app_failed("left the response unfinished")


def _check_keys(message: Message) -> None:
    if _MESSAGE_KEYS.isdisjoint(message):
        raise LocalProtocolError(f"reply.send: expected 'accept', 'text', 'bytes' or 'close', got {shape(message)}")
