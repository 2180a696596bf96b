"""Holds back what an application sends until its call returns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from uvicorn.core.exchange import COMPLETE, STREAMING, WAITING, HTTPExchange, HTTPGateway


def _held(name: str) -> Callable[..., None]:
    def hold(self: HeldResponse, *arguments: Any) -> None:
        self.steps.append(partial(getattr(self.gateway, name), *arguments))

    return hold


@final
class HeldResponse(HTTPGateway):
    """Holds a response until `release` or `drop` is called."""

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange
        self.gateway = exchange.gateway
        self.steps: list[Callable[[], object]] = []
        exchange.gateway = self

    def release(self) -> None:
        """Send the held response. Raises LocalProtocolError if the response is invalid."""
        exchange = self._exchange
        exchange.gateway = self.gateway
        for number, step in enumerate(self.steps):
            try:
                step()
            except Exception:
                exchange.state = STREAMING if number else WAITING
                if number:
                    exchange.disconnect()
                raise

    def drop(self) -> None:
        """Drop the held response, so that the exchange accepts a new response."""
        exchange = self._exchange
        exchange.gateway = self.gateway
        if self.steps and exchange.state <= COMPLETE:
            exchange.state, exchange.status, exchange.ended_early = WAITING, 0, False

    # For the exchange

    send_response = _held("send_response")
    send_content = _held("send_content")
    send_trailers = _held("send_trailers")
    exchange_ended = _held("exchange_ended")
    abort = _held("abort")

    def want_content(self, exchange: HTTPExchange) -> None:
        self.gateway.want_content(exchange)

    def content_taken(self, exchange: HTTPExchange) -> None:
        self.gateway.content_taken(exchange)
