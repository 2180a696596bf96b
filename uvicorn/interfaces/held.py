"""Holds the response of a plain function until it is known whether the function returns an awaitable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from uvicorn.core.exchange import COMPLETE, STREAMING, WAITING, HTTPExchange, HTTPGateway
from uvicorn.types import Headers


@final
class HeldResponse(HTTPGateway):
    """A gateway that holds the response of `exchange` until `release` or `drop` is called."""

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange
        self._gateway = exchange.gateway
        self._steps: list[Callable[[], object]] = []
        exchange.gateway = self

    def release(self) -> None:
        """Send the held response. Raises LocalProtocolError if the response is invalid."""
        exchange = self._exchange
        exchange.gateway = self._gateway
        for number, step in enumerate(self._steps):
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
        exchange.gateway = self._gateway
        if self._steps and exchange.state <= COMPLETE:
            exchange.state, exchange.status, exchange.ended_early = WAITING, 0, False

    # For the exchange

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        arguments = exchange, status, headers, content, more_content, reason
        self._steps.append(partial(self._gateway.send_response, *arguments))

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        self._steps.append(partial(self._gateway.send_content, exchange, content, more_content))

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        self._steps.append(partial(self._gateway.send_trailers, exchange, headers))

    def want_content(self, exchange: HTTPExchange) -> None:
        self._gateway.want_content(exchange)

    def content_taken(self, exchange: HTTPExchange) -> None:
        self._gateway.content_taken(exchange)

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._steps.append(partial(self._gateway.exchange_ended, exchange))

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self._steps.append(partial(self._gateway.abort, exchange, reason))


def call_held(exchange: HTTPExchange, app: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call `app`, hold its response during the call, and return its result.

    If the result is awaitable, `app` is a valid application, so send the response. Otherwise drop the response.
    """
    held = HeldResponse(exchange)
    try:
        returned = app(*arguments)
    except BaseException:
        held.release()
        raise
    if hasattr(returned, "__await__"):
        held.release()
    else:
        held.drop()
    return returned
