"""The hubs of this process that are running, for those who have no event loop to find them on."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uvicorn.broadcast.hub import Hub

_hubs: Final[weakref.WeakSet[Hub]] = weakref.WeakSet()


def add_running(hub: Hub) -> None:
    """A hub has started."""
    _hubs.add(hub)


def remove_running(hub: Hub) -> None:
    """A hub has stopped."""
    _hubs.discard(hub)


def running_hub(url: str | None) -> Hub | None:
    """One that is carried by `url`, or any; None if there is none."""
    for hub in tuple(_hubs):
        if hub.loop.is_running() and hub.url and (url is None or hub.url == url):
            return hub
    return None


# A fork takes the objects along, and not the threads that run them.
os.register_at_fork(after_in_child=_hubs.clear)
