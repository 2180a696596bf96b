"""Support for coroutines in Django sites. Add `uvicorn.django` to INSTALLED_APPS for its system checks."""

from __future__ import annotations

from uvicorn.django.lanes import ThreadsBusy
from uvicorn.django.publishing import publish_on_commit
from uvicorn.django.requests import login_required, request_of
from uvicorn.django.threads import DjangoThreads, release_thread

__all__ = ["DjangoThreads", "ThreadsBusy", "login_required", "publish_on_commit", "release_thread", "request_of"]
