"""Django's databases in coroutines, Django's request in handlers, and messages after commit.

An application for INSTALLED_APPS, whose system checks then run; nothing else in `uvicorn` imports Django.
"""

from __future__ import annotations

from uvicorn.django.lanes import ThreadsBusy
from uvicorn.django.threads import DjangoThreads, release_thread

__all__ = ["DjangoThreads", "ThreadsBusy", "release_thread"]
