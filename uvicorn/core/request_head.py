"""Attributes that are computed from a request head on demand."""

from __future__ import annotations

from collections.abc import Sequence

from uvicorn.core.endpoint import Endpoint, is_below
from uvicorn.fields import Fields


class RequestHead:
    """The attributes of a request that are computed on demand. Base class of `HTTPExchange`."""

    __slots__ = ()

    endpoint: Endpoint
    path: str
    fields: Fields
    #: The fields as pairs if they are at hand, otherwise None: making them costs more than reading `fields`.
    pairs: Sequence[tuple[bytes, bytes]] | None
    #: Address and scheme of the client, if a trusted proxy has made the connection and forwards them.
    forwarded: tuple[tuple[str, int] | None, str] | None

    @property
    def root_path(self) -> str:
        """The endpoint's root path. Empty for the target `*`, and for a path outside of the root path."""
        root_path = self.endpoint.root_path
        return root_path if is_below(self.path, root_path) else ""

    @property
    def headers(self) -> list[list[bytes]]:
        """The header fields as `[name, value]` lists. Each access returns new lists, which the caller may change."""
        return [[name, value] for name, value in self.pairs or zip(*self.fields)]  # noqa: B905

    @property
    def client(self) -> tuple[str, int] | None:
        """The address of the client, or None on a Unix socket."""
        return self.endpoint.client if self.forwarded is None else self.forwarded[0]

    @property
    def scheme(self) -> str:
        return self.endpoint.scheme if self.forwarded is None else self.forwarded[1]
