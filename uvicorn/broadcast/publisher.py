"""Messages to groups from code that has no event loop: views, management commands, task queues, cron.

A blocking socket, and as much of Redis' protocol as PUBLISH needs.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import socket
import threading
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, final

from uvicorn.broadcast.choice import LOCAL_REDIS, MEMORY, named_url
from uvicorn.broadcast.hub import Hub, outcome
from uvicorn.broadcast.running import running_hub
from uvicorn.broadcast.serialize import MAX_MESSAGE_BYTES, encode, group_name
from uvicorn.errors import BroadcastUnavailable, ConfigError, LocalProtocolError
from uvicorn.sending import SENT, shape
from uvicorn.types import Message

if TYPE_CHECKING:
    from uvicorn.broadcast.backends.redis_link import RedisAddress

# 1 s, for connecting, sending and the answer together: Redis needs a millisecond, and somebody waits for the page.
_TIMEOUT: Final = 1.0

# As a hub does: who has not been sent to for so long begins anew.
_MOST_SEQUENCES: Final = 10_000

_SCHEMES: Final = ("redis://", "rediss://", "unix://", "redis+py://", "memory://")


def publish(group: str, message: Message, *, url: str | None = None) -> None:
    """Send `message` to all members of `group`, in all processes; returns when it is on its way.

    `url` is what carries it. Without one it is what the BroadcastMiddleware of this process uses, if one is running;
    or what UVICORN_BROADCAST_URL names; or Redis on localhost. Any thread may call this, and a process that was forked.

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
        if not chosen.startswith(_SCHEMES):
            raise ConfigError(
                f"Publisher: the URL has scheme {chosen.partition(':')[0]!r}; expected one of {', '.join(_SCHEMES)}"
            )
        self._url = chosen
        self._address = None if chosen.startswith(MEMORY) else _address(chosen)
        self._prefix = prefix
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._begin()
        _publishers.add(self)

    def publish(self, group: str, message: Message) -> None:
        """Send `message` to all members of `group`; returns when the carrier has taken it.

        Raises BroadcastUnavailable if it has not, in time: it is not tried again, for nobody can know whether it had
        arrived. Raises LocalProtocolError for what is no message, or is too large.
        """
        name = group_name(group)
        encoded = encode(message, self._max_message_bytes)
        if self._address is None:
            hub = running_hub(self._url)
            if hub is None or not _through(hub, group, message):
                raise BroadcastUnavailable(f"{self._url}: no BroadcastMiddleware is running in this process")
            return
        deadline = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise BroadcastUnavailable(f"{self._address!r}: other threads were publishing for {self._timeout:g} s")
        try:
            connection = self._connected(self._address, deadline)
            sequence = self._sequences.pop(name, 0) + 1
            self._sequences[name] = sequence
            if len(self._sequences) > _MOST_SEQUENCES:
                del self._sequences[next(iter(self._sequences))]
            channel = (self._prefix + name).encode()
            connection.ask(deadline, b"PUBLISH", channel, encoded.numbered(self._sender, sequence))
        except BaseException as error:
            # An answer that is still to come would be taken for the next one's.
            self._drop()
            if isinstance(error, (OSError, _Refused)):
                said = str(error) or type(error).__name__
                raise BroadcastUnavailable(f"{self._address!r}: {said}") from None
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection; another one is made if it is needed."""
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        # Those that `publish` shares live until the process ends.
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """As new: another sender, whose lock nobody holds."""
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._sender = secrets.token_hex(6)
        self._sequences: dict[str, int] = {}

    def after_fork(self) -> None:
        """In the child: the connection is the parent's, and so may the lock's holder be."""
        connection = self._connection
        self._begin()
        if connection is not None:
            connection.close()

    def _connected(self, address: RedisAddress, deadline: float) -> _Connection:
        if self._connection is not None and self._connection.is_stale():
            self._drop()
        if self._connection is None:
            self._connection = _connect(address, deadline)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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
        return SENT


class _Refused(Exception):
    """Redis has answered with an error."""


@final
class _Connection:
    """One question, one answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""

    def ask(self, deadline: float, *command: bytes) -> bytes:
        """The answer, which is one line; raises OSError, TimeoutError among them, and _Refused."""
        parts = [b"*%d\r\n" % len(command)]
        for part in command:
            parts += (b"$%d\r\n" % len(part), part, b"\r\n")
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(b"".join(parts))
        while b"\r\n" not in self._received:
            self._socket.settimeout(_left(deadline))
            received = self._socket.recv(4096)
            if not received or len(self._received) > 65536:
                raise ConnectionError("the connection was closed" if not received else "what answers is no Redis")
            self._received += received
        answer, _, self._received = self._received.partition(b"\r\n")
        if answer[:1] == b"-":
            raise _Refused(answer[1:].decode("utf-8", "replace"))
        if answer[:1] not in (b"+", b":"):
            raise ConnectionError("what answers is no Redis")
        return answer

    def is_stale(self) -> bool:
        """Whether the other side has closed it, or said what nobody has asked for."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(self._received) or bool(poll.poll(0))

    def close(self) -> None:
        self._socket.close()


def _connect(address: RedisAddress, deadline: float) -> _Connection:
    if address.path:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_left(deadline))
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
    else:
        sock = socket.create_connection((address.host, address.port), timeout=_left(deadline))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if address.tls is not None:
            sock.settimeout(_left(deadline))
            sock = address.tls.wrap_socket(sock, server_hostname=address.host)
        connection = _Connection(sock)
        if address.password:
            name = (address.username.encode(),) if address.username else ()
            connection.ask(deadline, b"AUTH", *name, address.password.encode())
        if address.database:
            connection.ask(deadline, b"SELECT", b"%d" % address.database)
    except BaseException:
        sock.close()
        raise
    return connection


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def _address(url: str) -> RedisAddress:
    # Here: who never publishes need not import a driver.
    from uvicorn.broadcast.backends.redis import parse_address

    return parse_address(url.replace("redis+py://", "redis://", 1))


def _through(hub: Hub, group: str, message: Message) -> bool:
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
        asyncio.run_coroutine_threadsafe(sending, hub.loop).result()
    except RuntimeError:
        # The loop has been closed meanwhile.
        sending.close()
        return False
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
