"""Base class of the reply channels of HTTP exchanges."""

from __future__ import annotations

from uvicorn.channel import channel_names
from uvicorn.core.exchange import HTTPExchange


class HTTPReply:
    """A reply channel that can be a group member. Subclasses set attributes, and define `send` and `on_close`."""

    __slots__ = ("__weakref__", "_exchange", "_name")

    _exchange: HTTPExchange
    _name: str

    @property
    def name(self) -> str:
        if not self._name:
            self._name = channel_names.new("reply", self)
        return self._name

    @property
    def loop_thread(self) -> int:
        return self._exchange.endpoint.thread

    @property
    def is_ready(self) -> bool:
        return not self._exchange.write_paused

    def offer_text(self, text: str) -> bool:
        """Return False, because a response has no text messages."""
        return False

    async def wait_ready(self) -> None:
        await self._exchange.drain()

    def break_off(self, reason: str) -> None:
        """Abort the response, so that it does not look complete."""
        self._exchange.break_off(reason)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._exchange!r}>"
