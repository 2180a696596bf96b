"""Sets the client's address and scheme from header fields of trusted proxies."""

from __future__ import annotations

import ipaddress

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.server.proxy import TrustedPeers


# Other programs import this class.
class _TrustedHosts:
    def __init__(self, trusted_hosts: list[str] | str) -> None:
        items = trusted_hosts.split(",") if isinstance(trusted_hosts, str) else trusted_hosts
        names = {item.strip() for item in items} - {""}
        networks = {name for name in names if _is_network(name)}
        self.always_trust = "*" in names
        self._names = names - networks
        self.peers = TrustedPeers("*" if self.always_trust else ",".join(networks))

    def __contains__(self, host: str | None) -> bool:
        return self.always_trust or (bool(host) and (host in self._names or self.peers.trusts((host or "", 0))))


class ProxyHeadersMiddleware:
    """Sets the scope's client and scheme from X-Forwarded-For and X-Forwarded-Proto.

    `trusted_hosts` has addresses, networks and names of peers, as a list or as text with commas. `*` trusts every peer.
    The header fields of other peers are ignored.
    """

    def __init__(self, app: ASGI3Application, trusted_hosts: list[str] | str = "127.0.0.1") -> None:
        self.app = app
        self.trusted_hosts = _TrustedHosts(trusted_hosts)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        client = scope.get("client")
        peer = (client[0], client[1]) if client else None
        if scope["type"] != "lifespan" and (peer[0] if peer else None) in self.trusted_hosts:
            scheme = scope["scheme"]
            found, proto = self.trusted_hosts.peers.client(
                (_joined(scope, b"x-forwarded-for"), _joined(scope, b"x-forwarded-proto")), peer, scheme
            )
            if proto != scheme:
                scope["scheme"] = proto if scope["type"] == "http" else proto.replace("http", "ws")
            if found is not None:
                scope["client"] = found
        await self.app(scope, receive, send)


def _is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name)
    except ValueError:
        return False
    return True


def _joined(scope: Scope, name: bytes) -> bytes:
    return b",".join(value for field, value in scope["headers"] if field == name)
