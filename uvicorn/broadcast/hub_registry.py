"""The hubs of this process that are running, for those who have no event loop to find them on."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Final, Protocol

from uvicorn.types import Message


class RunningHub(Protocol):
    """What those without an event loop ask of a hub."""

    loop: asyncio.AbstractEventLoop
    thread: int
    url: str
    prefix: str
    publish_timeout: float

    def publish(self, group: str, message: Message, after: tuple[asyncio.Future[None], ...] = ()) -> asyncio.Task[None]:
        """Send a message to the members of a group, in all processes."""


# In the order in which they have started.
_hubs: Final[weakref.WeakValueDictionary[int, RunningHub]] = weakref.WeakValueDictionary()


def add_running(hub: RunningHub) -> None:
    """A hub has started."""
    _hubs[id(hub)] = hub


def remove_running(hub: RunningHub) -> None:
    """A hub has stopped."""
    _hubs.pop(id(hub), None)


def running_hub(url: str | None) -> RunningHub | None:
    """The first that is carried by `url`, or of all; None if there is none."""
    for hub in tuple(_hubs.values()):
        if hub.loop.is_running() and hub.url and (url is None or hub.url == url):
            return hub
    return None


# A fork takes the objects along, and not the threads that run them.
os.register_at_fork(after_in_child=_hubs.clear)
