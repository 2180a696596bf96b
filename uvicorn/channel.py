"""What all channels have in common: their names, and what `send` returns."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError
from typing import Any, Final, Never

from uvicorn.cancellation import ChannelClosed
from uvicorn.errors import LocalProtocolError
from uvicorn.types import Message

# How many sends in a row may pass without letting others run. A client that reads as fast as a handler writes, or
# one that has gone, would otherwise keep the event loop to that handler (rule R6). Two figures from there.
SENDS_IN_A_ROW: Final = 256
DROPS_IN_A_ROW: Final = 1000

# What a response's content, or the response, is called elsewhere: in ASGI 3, in WebSockets, in other libraries.
_MISNAMED: Final = frozenset(("body", "bytes", "text", "type"))


class ChannelNames:
    """Names that are unique among all processes (rule R4), `<kind>.<process>.<number>`, and whose they are."""

    def __init__(self) -> None:
        self._renew()
        # A forked process must not go on with its parent's names.
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        #: What names of this process have in their middle.
        self.process = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._channels: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def new(self, kind: str, channel: Any = None) -> str:
        """A name that nobody else has. `channel` is found by it from now on, for as long as it lives."""
        name = f"{kind}.{self.process}.{next(self._numbers)}"
        if channel is not None:
            self._channels[name] = channel
        return name

    def find(self, name: str) -> Any:
        """The channel of that name, or None: it has gone, or is another process's."""
        return self._channels.get(name)


channel_names: Final = ChannelNames()


class Done(Coroutine[Any, Any, None]):
    """What `send` returns when there is nothing to wait for: finished, shared, and it may be dropped (rule R5)."""

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
    """What `send` returns when its caller ought to wait. Nothing runs, and nothing warns, unless it is awaited.

    `on_await()` is called once, as soon as something awaits it: `await` itself, or the task that it is made into.
    """

    __slots__ = ("_coroutine", "_on_await", "_wait")

    def __init__(
        self, wait: Callable[[], Coroutine[Any, Any, None]], on_await: Callable[[], object] | None = None
    ) -> None:
        self._wait = wait
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
    await asyncio.sleep(0)


def send_from_thread(
    loop: asyncio.AbstractEventLoop | None,
    send: Callable[[Message], Coroutine[Any, Any, None]],
    message: Message,
) -> Coroutine[Any, Any, None]:
    """`send(message)` on the thread of `loop`, awaited; holds this thread up until it is done."""

    async def on_loop() -> None:
        await send(message)

    if loop is not None and not loop.is_closed():
        try:
            asyncio.run_coroutine_threadsafe(on_loop(), loop).result()
        except CancelledError:
            # What a ChannelClosed on the loop's side arrives as here.
            raise ChannelClosed("the client has gone") from None
    return DONE


def check_named(message: Message) -> None:
    """Raise LocalProtocolError if a response or chunk without `content` has it under a name of other interfaces.

    It would be taken for an empty one, which ends the response.
    """
    if not _MISNAMED.isdisjoint(message):
        raise LocalProtocolError(f"reply.send: expected the content as bytes in 'content', got {shape(message)}")


def shape(message: Any) -> str:
    """A message as errors show it: its keys, never its content."""
    return "{" + ", ".join(map(repr, message)) + "}" if isinstance(message, dict) else f"{type(message).__name__}"
