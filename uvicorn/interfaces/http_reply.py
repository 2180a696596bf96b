"""What the reply channels of HTTP share, whichever thread their application runs on."""

from __future__ import annotations

from uvicorn.channel import channel_names
from uvicorn.core.exchange import HTTPExchange


class HTTPReply:
    """The reply channel of one exchange, as a member of groups; subclasses send, and set the attributes."""

    __slots__ = ("__weakref__", "_exchange", "_name")

    _exchange: HTTPExchange
    _name: str

    @property
    def name(self) -> str:
        """Unique among all channels of all processes."""
        if not self._name:
            self._name = channel_names.new("reply", self)
        return self._name

    @property
    def is_ready(self) -> bool:
        """Whether a message sent now is not queued behind unsent ones."""
        return not self._exchange.write_paused

    def offer_text(self, text: str) -> bool:
        """Return False: a response is sent content, not text."""
        return False

    async def wait_ready(self) -> None:
        """Wait, on the event loop, until `is_ready`, or the client has gone."""
        await self._exchange.drain()

    def break_off(self, reason: str) -> None:
        """End the response, on the event loop, so that it does not look complete; nothing if it has ended."""
        self._exchange.break_off(reason)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._exchange!r}>"
