"""Runs the ASGI lifespan of an application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, final

from uvicorn.channel import shape
from uvicorn.errors import LocalProtocolError, StartupError
from uvicorn.escape import escaped, escaped_report, summary
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")

# Time for the application's call to end after its cancellation.
_CANCEL_SECONDS: Final = 1.0


@final
class Lifespan:
    """An application's lifespan call. The application fills `state`."""

    def __init__(self, app: Callable[..., Any], asgi: dict[str, str], must_work: bool) -> None:
        """With `must_work`, `startup` raises StartupError for an application without lifespan support."""
        self.state: dict[str, Any] = {}
        self._app = app
        self._asgi = asgi
        self._must_work = must_work
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        # The application's answer to the event that `_asked` names.
        self._answer: asyncio.Future[Message] | None = None
        self._asked = ""
        self._received = False

    async def startup(self) -> bool:
        """Send `lifespan.startup`. Return whether the application supports lifespan. Raises StartupError."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            answer = await self._ask("startup")
        except BaseException:
            await self._cancel()
            raise
        if answer is not None:
            if answer["type"] == "lifespan.startup.failed":
                await self._cancel()
                reason = escaped_report(answer.get("message") or "no reason given")
                raise StartupError(f"lifespan.startup.failed: {reason}")
            self._task.add_done_callback(self._ended)
            return True
        error = self._error()
        if isinstance(error, SystemExit):
            raise StartupError(f"lifespan.startup: the application raised SystemExit({error.code!r})") from error
        reason = "it returned" if error is None else summary(error)
        if self._must_work:
            raise StartupError(
                f"the application does not support lifespan: {reason}; pass --lifespan auto to serve it nevertheless"
            ) from error
        if self._received and error is not None and not isinstance(error, LocalProtocolError):
            # The startup has probably failed. The specification requires to serve the application nevertheless.
            logger.warning("lifespan: the application failed; serving it without lifespan", exc_info=error)
        else:
            logger.info("ASGI 'lifespan' protocol appears unsupported. (%s)", escaped(reason))
        return False

    async def shutdown(self, seconds: float) -> None:
        """Send `lifespan.shutdown`. Wait up to `seconds` for the application to end."""
        if self._task is None or self._task.done():
            return
        try:
            async with asyncio.timeout(seconds):
                answer = await self._ask("shutdown")
                if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                    reason = escaped_report(answer.get("message") or "no reason given")
                    logger.error("lifespan.shutdown.failed: %s", reason)
                await asyncio.wait((self._task,))
        except TimeoutError:
            logger.error("lifespan: the application's shutdown was cancelled after %g seconds", seconds)
            await self._cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": self._asgi, "state": self.state}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._asked == "shutdown" and self._answer is not None and self._answer.done():
            # No event follows: an application that receives in an endless loop must not delay the shutdown.
            raise asyncio.CancelledError
        event = await self._events.get()
        self._received = True
        return event

    async def _send(self, message: Message) -> None:
        kind, answer, asked = message.get("type"), self._answer, f"lifespan.{self._asked}"
        if kind not in (f"{asked}.complete", f"{asked}.failed"):
            raise LocalProtocolError(
                f"send: expected type {asked}.complete or {asked}.failed, got {kind!r:.60} in {shape(message)}"
            )
        if answer is None or answer.done():
            raise LocalProtocolError(f"send: expected no second answer to {asked}, got {kind!r}")
        answer.set_result(message)

    async def _ask(self, what: str) -> Message | None:
        assert self._task is not None
        self._asked = what
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{what}"})
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        # None if the application has ended first.
        return answer.result() if answer.done() else None

    async def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=_CANCEL_SECONDS)
        self._error()

    def _error(self) -> BaseException | None:
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = self._error()
        if error is not None:
            served = "" if self._asked == "shutdown" else "; its requests are still served"
            logger.error("lifespan: exception in the application%s", served, exc_info=error)
