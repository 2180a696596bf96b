"""Publishes to groups from code without an event loop, such as a cron job."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from concurrent.futures import CancelledError
from functools import lru_cache
from typing import Any, Final, final

from uvicorn.broadcast.backend import PUBLISH_TIMEOUT, BackendOptions
from uvicorn.broadcast.default_url import LOCAL_REDIS, MEMORY, named_url
from uvicorn.broadcast.encoding import MAX_MESSAGE_BYTES, encode, group_name
from uvicorn.broadcast.hub import Hub, outcome, running_hub
from uvicorn.broadcast.outage import Outage
from uvicorn.broadcast.sequences import SentSequences
from uvicorn.channel import DONE, shape
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.loop_calls import LoopCalls
from uvicorn.types import Message

# Added to the publish timeout when the event loop of this process publishes: that loop may be blocked for a moment.
_LOOP_SECONDS: Final = 5.0


def publish(group: str, message: Message, *, url: str | None = None) -> None:
    """Send `message` to all members of `group`, in all processes. Return when the backend has accepted the message.

    Without `url`, the first BroadcastMiddleware of this process chooses the backend. If no middleware has started, the
    URL is UVICORN_BROADCAST_URL, or else Redis on localhost.

    Thread-safe. Works in forked processes. Raises LocalProtocolError for an invalid message. Raises
    BroadcastUnavailable if the backend does not accept the message in time.
    """
    hub = running_hub(url)
    if hub is not None and _through(hub, group, message):
        return
    chosen = url or (hub.url if hub is not None else "") or named_url() or LOCAL_REDIS
    prefix = hub.prefix if hub is not None else ""
    _shared_publisher(chosen, prefix).publish(group, message)


@final
class Publisher:
    """Publishes to groups from code without an event loop. The first message opens a connection.

    The BroadcastMiddleware must have the same `prefix` and `max_message_bytes`. `timeout` is in seconds.

    Thread-safe. A forked child opens its own connection.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "",
        timeout: float = PUBLISH_TIMEOUT,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._url = url or named_url() or LOCAL_REDIS
        self._client = None
        if not self._url.startswith(MEMORY):
            # Imported here, because most processes never publish without an event loop.
            from uvicorn.broadcast.redis.sync import open_client

            self._client = open_client(self._url)
        self._channel = BackendOptions(prefix=prefix).channel
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self.reset()
        _publishers.add(self)

    def publish(self, group: str, message: Message) -> None:
        """Send `message` to all members of `group`. Return when the backend has accepted the message.

        Raises LocalProtocolError for an invalid message. Raises BroadcastUnavailable if the backend does not accept the
        message in time. The message may have arrived nevertheless.
        """
        name = group_name(group)
        encoded = encode(message, self._max_message_bytes)
        client = self._client
        if client is None:
            hub = running_hub(self._url)
            if hub is None or not _through(hub, group, message):
                raise BroadcastUnavailable(f"{self._url}: no BroadcastMiddleware is running in this process")
            return
        deadline = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            waited = f"other threads were publishing for {self._timeout:g} s"
            raise self._failed(f"{client!r}: {waited}; the message was not sent")
        try:
            # Connect before the message is numbered: a number that is not published would be a gap.
            client.retry_while_busy(client.prepare, deadline)
            payload = encoded.numbered(self._sender, self._sequences.next(name))
            client.retry_while_busy(client.publish, deadline, self._channel(name), payload)
        except BaseException as error:
            # Otherwise a late reply would count as the reply to the next message.
            client.close()
            if isinstance(error, client.failures):
                raise self._failed(f"{client!r}: {str(error) or type(error).__name__}") from None
            raise
        else:
            self._outage.succeeded()
        finally:
            self._lock.release()

    def _failed(self, reason: str) -> BroadcastUnavailable:
        error = BroadcastUnavailable(reason)
        self._outage.failed(error)
        return error

    def close(self) -> None:
        """Close the connection. The next message opens a new connection."""
        with self._lock:
            if self._client is not None:
                self._client.close()

    def __del__(self) -> None:
        # Publishers that `publish` shares live until the process ends.
        client = getattr(self, "_client", None)
        if client is not None:
            client.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._sender = secrets.token_hex(6)
        self._sequences = SentSequences()
        self._outage = Outage()
        if self._client is not None:
            self._client.close()


class SendingGroups:
    """`environ['uvicorn.groups']` under a server without an event loop."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def send(self, message: Message) -> Any:
        """Send `message["send"]` to the group `message["group"]`, and wait for the backend."""
        if not isinstance(message, dict) or message.get("send") is None:
            raise LocalProtocolError(f"groups.send: expected the keys 'group' and 'send', got {shape(message)}")
        if message.get("add") is not None or message.get("discard") is not None:
            raise LocalProtocolError("groups.send: the keys 'add' and 'discard' need a server with an event loop")
        self._publisher.publish(group_name(message.get("group")), message["send"])
        return DONE


def _through(hub: Hub, group: str, message: Message) -> bool:
    if threading.get_ident() == hub.thread:
        if not hub.url.startswith(MEMORY):
            # A thread cannot wait for its own event loop.
            return False
        hub.publish(group_name(group), message)
        return True
    group_name(group)
    if hub.loop.is_closed():
        return False
    future = LoopCalls.of(hub.loop).start(lambda: outcome(hub.publish(group, message)))
    patience = hub.publish_timeout + _LOOP_SECONDS
    try:
        future.result(patience)
    except TimeoutError:
        future.cancel()
        raise BroadcastUnavailable(
            f"group {group!r}: the event loop did not respond for {patience:g} s; the message may have been sent"
        ) from None
    except CancelledError:
        raise BroadcastUnavailable(f"group {group!r}: the server has stopped") from None
    return True


_publishers: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()


@lru_cache(maxsize=16)
def _shared_publisher(url: str, prefix: str) -> Publisher:
    return Publisher(url, prefix=prefix)


def _after_fork() -> None:
    for publisher in tuple(_publishers):
        publisher.reset()


os.register_at_fork(after_in_child=_after_fork)
