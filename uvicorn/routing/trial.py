"""Tries a Shift's new application, and falls back to the old application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from io import FileIO
from typing import Any, Final, final

from uvicorn.core.exchange import CLOSED, HTTPExchange, HTTPGateway
from uvicorn.errors import ConfigError
from uvicorn.types import Callback, Headers

logger = logging.getLogger("uvicorn.app")

_PASS_FIELD: Final = b"x-uvicorn-pass"
#: Decisions of the new application. They are never dropped.
_DECISIONS: Final = frozenset((401, 403, 407, 429))


def check_fallback(fallback: Any) -> frozenset[int] | None:
    """Return `fallback` as a set of status codes. Raises ConfigError."""
    if fallback is None:
        return None
    codes = list(fallback) if isinstance(fallback, (tuple, list, set, frozenset)) else [fallback]
    for code in codes:
        if type(code) is not int or not 200 <= code < 500 or code in _DECISIONS:
            raise ConfigError(
                "Shift: fallback: expected integer status codes from 200 to 499, except 401, 403, 407 and 429, "
                f"got {code!r:.100}"
            )
    return frozenset(codes)


@final
class TrialGateway(HTTPGateway):
    """Forwards the new application's response, unless the old application must respond."""

    def __init__(self, exchange: HTTPExchange, fallback: frozenset[int], fall_back: Callable[[], object]) -> None:
        """`exchange` belongs to the client. `fall_back` is called after a dropped response."""
        self._exchange = exchange
        self._fallback = fallback
        self._fall_back = fall_back
        self._is_dropped = False
        self._is_forwarding = False
        self.sends_files = exchange.gateway.sends_files
        self.pushes_content = exchange.gateway.pushes_content

    def begin(self) -> HTTPExchange:
        """Return the exchange for the new application."""
        exchange = self._exchange
        trial = HTTPExchange(
            self,
            exchange.endpoint,
            exchange.method,
            exchange.target,
            exchange.http_version,
            exchange.fields,
            has_content=False,
            pairs=exchange.pairs,
        )
        # The constructor may have added the root path a second time.
        trial.path, trial.raw_path, trial.target = exchange.path, exchange.raw_path, exchange.target
        trial.forwarded = exchange.forwarded

        # No attribute refers to `trial`: there is no reference cycle when both exchanges have ended.
        def ended(exchange: HTTPExchange) -> None:
            if not self._is_forwarding:
                trial.disconnect()

        exchange.on_close(lambda: trial.half_close() if exchange.half_closed else None)
        exchange.on_end(ended)
        return trial

    def _forward(self, send: Callable[..., object], *arguments: Any) -> None:
        if not self._is_dropped:
            self._is_forwarding = True
            try:
                send(*arguments)
            finally:
                self._is_forwarding = False

    def _drop(self, trial: HTTPExchange) -> None:
        logger.debug("%s: the new application passes the request on to the old application", trial)
        trial.disconnect()
        self._fall_back()

    # What the trial exchange calls

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        return not self._is_dropped and self._exchange.write_paused

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        headers = list(headers)
        if status in self._fallback or any(
            name.lower() == _PASS_FIELD and value == b"1" for name, value in headers if isinstance(name, bytes)
        ):
            self._is_dropped = True
            # Soon: the exchange takes its next state after this call.
            asyncio.get_running_loop().call_soon(self._drop, exchange)
            return
        self._forward(self._exchange.respond, status, headers, content, more_content, reason)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        self._forward(self._exchange.write, content, more_content)
        if self._exchange.state is CLOSED:
            exchange.disconnect()

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        self._forward(self._exchange.write_trailers, headers)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        if not self._is_dropped:
            await self._exchange.gateway.send_file(self._exchange, file, count, start)

    def want_content(self, exchange: HTTPExchange) -> None:
        """Do nothing, because the request has no content."""

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self._forward(self._exchange.abort, reason)

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        self._forward(self._exchange.break_off, reason)

    def handler_continues(self, exchange: HTTPExchange, cancel: Callback, seconds: float) -> Callback:
        if self._is_dropped:
            return super().handler_continues(exchange, cancel, seconds)
        return self._exchange.gateway.handler_continues(self._exchange, cancel, seconds)

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        if self._is_dropped or not self._exchange.gateway.pass_failure(self._exchange, error):
            return False
        self._exchange.disconnect()
        return True

    async def drain(self) -> None:
        if not self._is_dropped:
            await self._exchange.drain()

    def last_send(self) -> Callable[[], object] | None:
        return None if self._is_dropped else self._exchange.gateway.last_send()
