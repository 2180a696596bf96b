"""Messages to groups from code that has no event loop: views, management commands, task queues, cron."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, final

from uvicorn.broadcast.default_url import LOCAL_REDIS, MEMORY, named_url
from uvicorn.broadcast.encoding import MAX_MESSAGE_BYTES, encode, group_name
from uvicorn.broadcast.hub import outcome
from uvicorn.broadcast.hub_registry import RunningHub, running_hub
from uvicorn.broadcast.outage import Outage
from uvicorn.channel import DONE, shape
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.types import Message

if TYPE_CHECKING:
    from uvicorn.broadcast.redis.sync import SyncClient

# 1 s, for connecting, sending and the answer together: Redis needs a millisecond, and somebody waits for the page.
_TIMEOUT: Final = 1.0

# As a `Sender` does: a publish timeout of 1 s has four attempts.
_FIRST_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 0.4

# What the event loop of this process is given on top of the time that a message has. It may be waiting for the very
# thread that publishes.
_LOOP_SECONDS: Final = 5.0

# As a hub does: who has not been sent to for so long begins anew.
_MOST_SEQUENCES: Final = 10_000


def publish(group: str, message: Message, *, url: str | None = None) -> None:
    """Send `message` to all members of `group`, in all processes; returns when it is on its way.

    `url` is what carries it. Without one it is what the BroadcastMiddleware of this process uses, the first that has
    started; or what UVICORN_BROADCAST_URL names; or Redis on localhost. Any thread may call this, and a process that
    was forked.

    Raises BroadcastUnavailable if the message was not taken within a second, and LocalProtocolError for what is none.
    """
    hub = running_hub(url)
    if hub is not None and _through(hub, group, message):
        return
    chosen = url or (hub.url if hub is not None else "") or named_url() or LOCAL_REDIS
    prefix = hub.prefix if hub is not None else ""
    _shared_publisher(chosen, prefix).publish(group, message)


@final
class Publisher:
    """A connection of one's own to publish by: made when it is first needed, kept, and made again when it is lost.

    `prefix` and `max_message_bytes` are to be those of the middleware. Usable from any thread, one at a time; after a
    fork the child has a connection of its own.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "",
        timeout: float = _TIMEOUT,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Raises ConfigError for a URL that cannot be used; nothing connects yet."""
        chosen = url or named_url() or LOCAL_REDIS
        self._url = chosen
        self._client = None if chosen.startswith(MEMORY) else _open_client(chosen)
        self._prefix = prefix
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._begin()
        _publishers.add(self)

    def publish(self, group: str, message: Message) -> None:
        """Send `message` to all members of `group`; returns when the carrier has taken it.

        Raises BroadcastUnavailable if it has not, in time. It is tried again only while Redis says that it is busy
        (BUSY, LOADING): otherwise nobody can know whether it had arrived. Raises LocalProtocolError for what is no
        message, or is too large.
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
            raise self._not_taken(f"{client!r}: other threads were publishing for {self._timeout:g} s")
        try:
            # First: a number that nobody has seen would be a hole.
            _patiently(deadline, lambda: client.prepare(deadline))
            sequence = self._sequences.pop(name, 0) + 1
            self._sequences[name] = sequence
            if len(self._sequences) > _MOST_SEQUENCES:
                del self._sequences[next(iter(self._sequences))]
            payload = encoded.numbered(self._sender, sequence)
            channel = (self._prefix + name).encode()
            _patiently(deadline, lambda: client.publish(deadline, channel, payload))
        except BaseException as error:
            # An answer that is still to come would be taken for the next one's.
            client.close()
            if _is_failure(error):
                said = str(error) or type(error).__name__
                raise self._not_taken(f"{client!r}: {said}") from None
            raise
        else:
            if self._outage:
                self._outage.succeeded()
        finally:
            self._lock.release()

    def _not_taken(self, reason: str) -> BroadcastUnavailable:
        error = BroadcastUnavailable(reason)
        self._outage.failed(error)
        return error

    def close(self) -> None:
        """Close the connection; another one is made if it is needed."""
        with self._lock:
            if self._client is not None:
                self._client.close()

    def __del__(self) -> None:
        # Those that `publish` shares live until the process ends.
        client = getattr(self, "_client", None)
        if client is not None:
            client.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """As new: another sender, whose lock nobody holds."""
        self._lock = threading.Lock()
        self._sender = secrets.token_hex(6)
        self._sequences: dict[str, int] = {}
        self._outage = Outage()

    def after_fork(self) -> None:
        """In the child: the connection is the parent's, and so may the lock's holder be."""
        self._begin()
        if self._client is not None:
            self._client.close()


class SendingGroups:
    """`environ['uvicorn.groups']` under a host that has no event loop: it can send, and nobody can be added."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def send(self, message: Message) -> Any:
        """Say `{'group': name, 'send': message}`; returns when the message is on its way."""
        if not isinstance(message, dict) or message.get("send") is None:
            raise LocalProtocolError(f"groups.send: expected 'group' and 'send', got {shape(message)}")
        if message.get("add") is not None or message.get("discard") is not None:
            raise LocalProtocolError(
                "groups.send: 'add' and 'discard' need a server with an event loop; this host has none"
            )
        self._publisher.publish(group_name(message.get("group")), message["send"])
        return DONE


def _open_client(url: str) -> SyncClient:
    # Here: who never publishes need not import a driver.
    from uvicorn.broadcast.redis.sync import open_client

    return open_client(url)


def _patiently(deadline: float, call: Callable[[], None]) -> None:
    """Call again for as long as Redis refuses with what passes; it has done nothing then."""
    from uvicorn.broadcast.redis.resp import RedisRefusal

    delay = _FIRST_RETRY_SECONDS
    while True:
        try:
            call()
            return
        except RedisRefusal as refusal:
            if not refusal.is_transient or time.monotonic() + delay >= deadline:
                raise
        time.sleep(delay)
        delay = min(2 * delay, _LONGEST_RETRY_SECONDS)


def _is_failure(error: BaseException) -> bool:
    from uvicorn.broadcast.redis.sync import FAILURES

    return isinstance(error, FAILURES)


def _through(hub: RunningHub, group: str, message: Message) -> bool:
    """Send by the hub of this process; False if that would have to wait for the very thread that calls."""
    if threading.get_ident() == hub.thread:
        if not hub.url.startswith(MEMORY):
            return False
        hub.publish(group_name(group), message)
        return True
    group_name(group)

    async def on_loop() -> None:
        await outcome(hub.publish(group, message))

    sending = on_loop()
    try:
        future = asyncio.run_coroutine_threadsafe(sending, hub.loop)
    except RuntimeError:
        # The loop has been closed meanwhile.
        sending.close()
        return False
    patience = hub.publish_timeout + _LOOP_SECONDS
    try:
        future.result(patience)
    except TimeoutError:
        future.cancel()
        raise BroadcastUnavailable(
            f"group {group!r}: the event loop of this process was held up for {patience:g} s, or has ended; the message"
            " may have been sent"
        ) from None
    except CancelledError:
        raise BroadcastUnavailable(f"group {group!r}: the server has stopped") from None
    return True


_publishers: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()
_shared: dict[tuple[str, str], Publisher] = {}
_MOST_SHARED: Final = 16


def _shared_publisher(url: str, prefix: str) -> Publisher:
    publisher = _shared.get((url, prefix))
    if publisher is None:
        if len(_shared) >= _MOST_SHARED:
            _shared.clear()
        publisher = _shared.setdefault((url, prefix), Publisher(url, prefix=prefix))
    return publisher


def _after_fork() -> None:
    for publisher in tuple(_publishers):
        publisher.after_fork()


os.register_at_fork(after_in_child=_after_fork)
