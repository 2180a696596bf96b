"""Channel names, awaitables for `send`, and application hooks."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Never

from uvicorn.errors import LocalProtocolError
from uvicorn.loop_calls import LoopCalls
from uvicorn.types import Callback, Message

# Sends, or dropped sends, in a row after which a handler yields, so that it does not block the event loop (rule R6).
SENDS_IN_A_ROW: Final = 256
DROPS_IN_A_ROW: Final = 1000

# Keys under which other interfaces (ASGI 3, WebSocket messages, other libraries) have the content.
_MISNAMED: Final = frozenset(("body", "bytes", "text", "type"))


class ChannelNames:
    """Makes unique channel names (rule R4), and finds channels by name."""

    def __init__(self) -> None:
        self._renew()
        # A forked process must not reuse its parent's names.
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        #: The middle part of this process's names.
        self.process = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self._channels: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def new(self, kind: str, channel: Any = None) -> str:
        """Return a new name `<kind>.<process>.<number>` for `channel`."""
        name = f"{kind}.{self.process}.{next(self._numbers)}"
        if channel is not None:
            self._channels[name] = channel
        return name

    def find(self, name: str) -> Any:
        """Return the channel `name`. If this process has no such channel, return None."""
        return self._channels.get(name)


channel_names: Final = ChannelNames()


class WrappedReply:
    """A reply channel with another `send` function."""

    def __init__(self, reply: Any, send: Callable[[Message], Any]) -> None:
        self._reply = reply
        self.send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reply, name)


class Done(Coroutine[Any, Any, None]):
    """An awaitable that is already complete (rule R5)."""

    __slots__ = ()
    # The exhausted iterator's own method: it answers `await` without a call into Python.
    __await__ = iter(()).__iter__  # type: ignore[assignment]

    def send(self, value: Any) -> Never:
        raise StopIteration

    def throw(self, *error: Any) -> Never:
        raise error[0]

    def close(self) -> None:
        pass


class LazyAwaitable(Coroutine[Any, Any, None]):
    """An awaitable that callers may ignore without a warning from Python."""

    __slots__ = ("_coroutine", "_on_await", "_wait")

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]], on_await: Callback | None = None) -> None:
        self._wait = wait
        #: Called once, when the object is first awaited.
        self._on_await = on_await
        self._coroutine: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        if self._coroutine is None:
            self._coroutine = self._begin()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        if self._coroutine is None:
            raise error[0]
        return self._coroutine.throw(*error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def _begin(self) -> Coroutine[Any, Any, None]:
        on_await, self._on_await = self._on_await, None
        if on_await is not None:
            on_await()
        return self._wait()


DONE: Final = Done()


async def let_others_run() -> None:
    """Yield to the event loop once."""
    await asyncio.sleep(0)


def send_from_thread(
    loop: asyncio.AbstractEventLoop | None, send: Callable[[Message], Coroutine[Any, Any, None]], message: Message
) -> Coroutine[Any, Any, None]:
    """Block until `send(message)` has completed on `loop`. Without an open loop, drop `message`."""
    if loop is not None and not loop.is_closed():
        LoopCalls.of(loop).run(lambda: send(message))
    return DONE


def check_named(message: Message) -> None:
    """Raise LocalProtocolError if `message` has an ASGI key, such as 'body'."""
    if not _MISNAMED.isdisjoint(message):
        raise LocalProtocolError(f"reply.send: expected the content as bytes in 'content', got {shape(message)}")


async def call_hook(app: object, name: str) -> None:
    """If `app` has a coroutine method `name`, await this method (rule R15)."""
    hook = getattr(app, name, None)
    if inspect.iscoroutinefunction(hook):
        await hook()


def shape(message: Any) -> str:
    """Return the keys of `message` as text for an error."""
    return "{" + ", ".join(map(repr, message)) + "}" if isinstance(message, dict) else f"{type(message).__name__}"
