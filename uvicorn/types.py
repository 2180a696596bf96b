"""Names for the shapes that applications see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

#: `[name, value]`, the name in lower case. A list because the interface's documents show lists.
HeaderField: TypeAlias = list[bytes]

#: What applications may hand us: lists or tuples, names in any case.
Headers: TypeAlias = Iterable[Sequence[bytes]]

#: A message of the channels interface: a dict with text keys.
Message: TypeAlias = dict[str, Any]


class Channel(Protocol):
    """One entry of `channels`. `send`, `receive` and `name` are each optional."""

    @property
    def name(self) -> str: ...


#: `channels` of the channels interface: name -> channel.
Channels: TypeAlias = Mapping[str, Any]

#: `async def app(message, channels)`.
ChannelsApp: TypeAlias = Callable[[Message, dict[str, Any]], Awaitable[None]]
