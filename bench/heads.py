"""The requests that benchmarks send: 512 different heads, or one head again and again.

The varied ones are what a server sees of many clients, or of a proxy's pooled connections. wrk by itself repeats one,
and a server that remembers the last head looks more than twice as fast on that load.
"""

from __future__ import annotations

from collections.abc import Sequence

COUNT = 512

_USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "okhttp/4.12.0",
)
_ACCEPT = ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json")


def varied_heads(host: str, path: str = "/articles", content_bytes: int = 0, forwarded: bool = False) -> list[bytes]:
    """Return 512 heads of six to nine fields, each with a path below `path`, query, id and cookie of its own.

    With `content_bytes` they are of POSTs with so much content. With `forwarded` each has `x-forwarded-for` and
    `x-forwarded-proto`, as from a proxy; else every fourth has the first of them.
    """
    method, framing = ("POST", [("Content-Length", str(content_bytes))]) if content_bytes else ("GET", [])
    heads = []
    for number in range(COUNT):
        mixed = number * 2654435761 % (1 << 32)
        target = f"{path}/{number}?page={mixed % 97}&session={mixed:08x}"
        fields = [
            ("Host", host),
            ("User-Agent", _USER_AGENTS[number % 4]),
            ("Accept", _ACCEPT[number // 4 % 2]),
            ("Accept-Encoding", "gzip, deflate, br"),
            ("X-Request-ID", f"{mixed:08x}-{number:04x}-4000-8000-{mixed ^ 0xFFFFFFFF:012x}"),
            ("Cookie", f"session={mixed:08x}{number:08x}; theme=dark"),
            *framing,
        ]
        if number % 2 == 0:
            fields.append(("Accept-Language", "en-GB,en;q=0.9"))
        if number % 5 == 0:
            fields.append(("Authorization", f"Bearer {mixed:016x}{number:016x}"))
        if forwarded or number % 4 == 0:
            fields.append(("X-Forwarded-For", f"203.0.{113 + number // 256}.{number % 256}"))
        if forwarded:
            fields.append(("X-Forwarded-Proto", "https"))
        heads.append(_head(f"{method} {target} HTTP/1.1", fields))
    return heads


def one_head(host: str, path: str = "/", content_bytes: int = 0, forwarded: bool = False) -> bytes:
    """Return the head that wrk sends by default; with `forwarded`, as a proxy passes it on."""
    fields = [("Host", host)]
    if content_bytes:
        fields += [("Content-Type", "application/octet-stream"), ("Content-Length", str(content_bytes))]
    if forwarded:
        fields += [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")]
    return _head(f"{'POST' if content_bytes else 'GET'} {path} HTTP/1.1", fields)


def wrk_script(heads: Sequence[bytes], content_bytes: int = 0) -> str:
    """Return a script that makes wrk send `heads` in turn, each followed by so much content.

    The heads are in it as they are, and `request` only takes the next one, so that wrk costs little more than without
    a script. `wrk.format` would put the fields in the order of a hash table.
    """
    quoted = ",\n".join('"' + head.decode().replace('"', '\\"').replace("\r\n", "\\r\\n") + '"' for head in heads)
    return f"""
local heads = {{
{quoted}
}}
local requests = {{}}
local next_one = 0

function init(arguments)
  local content = string.rep("x", {content_bytes})
  for number, head in ipairs(heads) do requests[number] = head .. content end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
"""


def _head(line: str, fields: Sequence[tuple[str, str]]) -> bytes:
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in fields), "", ""]).encode()
