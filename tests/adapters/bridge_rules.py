"""The allowed differences between an application behind adapters and the same application alone, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.adapters.scripted_app import Seen
from tests.adapters.strict_host import HOP_BY_HOP, Received, Request

PHRASES = {"200": "OK", "503": "Service Unavailable", "299": "Unknown"}


def differences(request: Request, bare: tuple[Received, Seen], bridged: tuple[Received, Seen]) -> Iterator[str]:
    """Return all differences that a client or the application could notice."""
    (host, seen), (far_host, far_seen) = bare, bridged
    if far_host.mistakes:
        yield f"what PEP 3333 forbids: {far_host.mistakes}"
    if far_seen.calls != 1:
        yield f"{far_seen.calls} calls"
    if far_seen.closed != far_seen.returned or not far_seen.generator_is_done:
        yield f"{far_seen.returned} iterables, closed {far_seen.closed} times; {far_seen.generator}"
    yield from _environ_differences(seen, far_seen)
    if request.leaves_after == 0:
        # Nobody has looked at the response.
        return
    if host.left:
        yield from _differences_before_the_client_left(host, far_host)
        return
    refused = host.failed and bool(host.mistakes)
    if host.failed:
        # An application that fails before its output is everywhere 500; the page is each host's own.
        if far_host.code != 500 and not _fails_on_truncated_content(far_seen):
            yield f"500 became {far_host.status}"
    elif _fails_on_truncated_content(far_seen):
        yield from _differences_on_truncated_content(request, host, far_host)
    elif host.overran or host.fell_short:
        yield from _differences_in_contradicted_length(host, far_host)
    else:
        yield from _response_differences(request, host, far_host)
    if not refused:
        yield from _event_differences(request, host, seen, far_seen)


def _response_differences(request: Request, host: Received, far_host: Received) -> Iterator[str]:
    if far_host.status != _with_a_reason(host.status):
        yield f"status {host.status!r} became {far_host.status!r}"
    if _without_framing(host, host) != _without_framing(far_host, host):
        yield f"headers {host.headers} became {far_host.headers}"
    if far_host.content != host.content:
        yield f"content of {len(host.content)} bytes became {len(far_host.content)} bytes, or others"
    if far_host.complete != host.complete and not (_stops_at_the_head(request, host) and far_host.complete):
        yield f"complete {host.complete} became {far_host.complete}"


def _differences_before_the_client_left(host: Received, far_host: Received) -> Iterator[str]:
    """Compare only up to the disconnect, because behind an adapter the application runs ahead of the client."""
    count = min(len(host.content), len(far_host.content))
    if host.content[:count] != far_host.content[:count]:
        yield "other content before the client left"
    if host.content:
        if not far_host.left:
            yield f"the client had {len(far_host.content)} bytes and did not leave"
        if far_host.status != _with_a_reason(host.status):
            yield f"status {host.status!r} became {far_host.status!r}"
        if _without_framing(host, host) != _without_framing(far_host, host):
            yield f"headers {host.headers} became {far_host.headers}"


def _differences_on_truncated_content(request: Request, host: Received, far_host: Received) -> Iterator[str]:
    """If the application does not catch ClientDisconnected, the response is 400 or is aborted (rule R7).

    A bridge raises ClientDisconnected earlier than the input itself, because the bridge reads ahead up to 64 KiB.
    """
    if far_host.complete and far_host.code not in (400, 500) and not _stops_at_the_head(request, host):
        yield f"an unhandled failure of the input ended in {far_host.status}, complete"
    if not far_host.complete and not host.content.startswith(far_host.content):
        yield "other content before the input failed"


def _differences_in_contradicted_length(host: Received, far_host: Received) -> Iterator[str]:
    """Content that contradicts its content-length must not look complete.

    The response is 500 if it has not begun, and is aborted otherwise. Surplus content may also be cut off, because PEP
    3333 allows that.
    """
    if far_host.failed or (far_host.code == 500 and far_host.complete):
        return
    if far_host.complete and not (host.overran and far_host.content == host.content):
        yield "content that contradicts its length looks complete"
    if not host.content.startswith(far_host.content):
        yield "other content than the application's"


def _event_differences(request: Request, host: Received, seen: Seen, far_seen: Seen) -> Iterator[str]:
    stops_at_the_head = _stops_at_the_head(request, host)
    # Who finds out first that a length is contradicted stops first.
    either_may_stop_first = host.overran or host.fell_short
    if seen.read_failed or far_seen.read_failed:
        if seen.read_failed and not far_seen.read_failed and not (stops_at_the_head or either_may_stop_first):
            yield "truncated content was taken for the whole"
        if not seen.content.startswith(far_seen.content) and not (
            either_may_stop_first and far_seen.content.startswith(seen.content)
        ):
            yield "other content than the request's, before it was truncated"
        return
    events, far_events = seen.events, far_seen.events
    if stops_at_the_head or either_may_stop_first:
        events = events[: len(far_events)]
    if either_may_stop_first:
        far_events = far_events[: len(events)]
    if events != far_events:
        yield f"the application saw {_short(events)}, and behind the bridge {_short(far_events)}"


def _environ_differences(seen: Seen, far_seen: Seen) -> Iterator[str]:
    extra = set(far_seen.environ_faults) - set(seen.environ_faults)
    if extra:
        yield f"environ: {extra}"
    wanted = _environ_as_bridged(seen.environ)
    for key, value in wanted.items():
        if far_seen.environ.get(key, "") != value:
            yield f"environ {key}: {value!r} became {far_seen.environ.get(key)!r}"
    # REMOTE_ADDR is "" where the host does not name it, as in CGI; the raw target is always there.
    allowed = {"REMOTE_ADDR", "REQUEST_URI", "RAW_URI", *wanted}
    new = [key for key in far_seen.environ if key not in allowed and not key.startswith("wsgi.")]
    if new:
        yield f"environ has got {new}"


def _environ_as_bridged(environ: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `environ` that must be equal behind a bridge, without keys of the host like `wsgi.input`.

    HTTP_PROXY is dropped (C2). HTTP_CONTENT_TYPE and HTTP_CONTENT_LENGTH are dropped too (PEP 3333, "environ
    Variables").
    """
    dropped = ("HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")
    kept = ("wsgi.version", "wsgi.url_scheme")
    return {
        key: value
        for key, value in environ.items()
        if key not in dropped
        and (key in kept or not key.startswith("wsgi."))
        # Without an address a port means nothing.
        and (key != "REMOTE_PORT" or environ.get("REMOTE_ADDR"))
    }


def _without_framing(received: Received, host: Received) -> list[tuple[str, str]]:
    """Return the fields without framing and connection, which the last host decides."""
    said = any(name.lower() == "content-length" for name, _ in host.headers) and host.status[:3] != "204"
    aside = HOP_BY_HOP if said else HOP_BY_HOP | {"content-length"}
    return [(name.lower(), value) for name, value in received.headers if name.lower() not in aside]


def _with_a_reason(status: str) -> str:
    """Fill in the standard reason phrase, since an empty one equals a missing one (RFC 9112, section 4)."""
    return status if status[4:] else f"{status[:3]} {PHRASES[status[:3]]}"


def _stops_at_the_head(request: Request, host: Received) -> bool:
    """Return whether the response ends after its head, so that the application is not asked for content."""
    return request.method == "HEAD" or host.has_no_content


def _fails_on_truncated_content(far_seen: Seen) -> bool:
    return far_seen.read_failed and not far_seen.read_failure_was_caught


def _short(events: list[object]) -> str:
    return repr([f"{len(event)} bytes" if isinstance(event, bytes) and len(event) > 20 else event for event in events])
