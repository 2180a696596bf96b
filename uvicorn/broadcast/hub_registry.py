"""The running hubs of this process, for callers without an event loop."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Final, Protocol

from uvicorn.types import Message


class RunningHub(Protocol):
    """The part of a hub that other event loops and threads use."""

    loop: asyncio.AbstractEventLoop
    thread: int
    url: str
    prefix: str
    publish_timeout: float

    def publish(self, group: str, message: Message, after: tuple[asyncio.Future[None], ...] = ()) -> asyncio.Task[None]:
        """Send a message to the members of a group, in all processes."""


# In the order of their start.
_hubs: Final[weakref.WeakValueDictionary[int, RunningHub]] = weakref.WeakValueDictionary()


def add_running(hub: RunningHub) -> None:
    """Register a hub that has started."""
    _hubs[id(hub)] = hub


def remove_running(hub: RunningHub) -> None:
    """Remove a hub that has stopped."""
    _hubs.pop(id(hub), None)


def running_hub(url: str | None) -> RunningHub | None:
    """Return the first hub with `url`, or the first of all; None without one."""
    for hub in tuple(_hubs.values()):
        if hub.loop.is_running() and hub.url and (url is None or hub.url == url):
            return hub
    return None


def is_first(hub: RunningHub) -> bool:
    """Return whether no hub that started earlier on the same thread has the same backend and prefix.

    Such hubs receive the same messages; a client that joins a group through two of them would get each message twice.
    """
    key = (hub.thread, hub.url, hub.prefix)
    same = (other for other in tuple(_hubs.values()) if (other.thread, other.url, other.prefix) == key)
    return not hub.url or next(same, hub) is hub


# A forked process has the objects, but not the threads that run them.
os.register_at_fork(after_in_child=_hubs.clear)
