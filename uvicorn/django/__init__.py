"""Django for coroutines: its databases, its requests, and broadcast messages after a commit.

An application for INSTALLED_APPS, which adds system checks. No other part of `uvicorn` imports Django.
"""

from __future__ import annotations

from uvicorn.django.lanes import ThreadsBusy
from uvicorn.django.publishing import publish_on_commit
from uvicorn.django.requests import login_required, request_of
from uvicorn.django.threads import DjangoThreads, release_thread

__all__ = ["DjangoThreads", "ThreadsBusy", "login_required", "publish_on_commit", "release_thread", "request_of"]
