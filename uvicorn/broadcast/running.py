"""The hubs of this process that are running, for those who have no event loop to find them on."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uvicorn.broadcast.hub import Hub

# In the order in which they have started.
_hubs: Final[weakref.WeakValueDictionary[int, Hub]] = weakref.WeakValueDictionary()


def add_running(hub: Hub) -> None:
    """A hub has started."""
    _hubs[id(hub)] = hub


def remove_running(hub: Hub) -> None:
    """A hub has stopped."""
    _hubs.pop(id(hub), None)


def running_hub(url: str | None) -> Hub | None:
    """The first that is carried by `url`, or of all; None if there is none."""
    for hub in tuple(_hubs.values()):
        if hub.loop.is_running() and hub.url and (url is None or hub.url == url):
            return hub
    return None


# A fork takes the objects along, and not the threads that run them.
os.register_at_fork(after_in_child=_hubs.clear)
