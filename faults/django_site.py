"""A Django site whose coroutines use the database, for the cases of `django.py`; PG_FOLDER has the server's socket."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["uvicorn.django"],
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": os.environ["PG_FOLDER"],
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": os.environ["PG_CHECKS"] == "1",
        }
    },
)
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from uvicorn.django import DjangoThreads  # noqa: E402
from uvicorn.utils import ASGIAdapter  # noqa: E402


def query(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def sync_view(request: HttpRequest) -> HttpResponse:
    query(0.002)
    return HttpResponse("ok")


async def quick(request: HttpRequest) -> HttpResponse:
    await sync_to_async(query)(0.002)
    return HttpResponse("ok")


async def slow(request: HttpRequest) -> HttpResponse:
    await sync_to_async(query)(0.2)
    return HttpResponse("ok")


urlpatterns = [path("sync", sync_view), path("quick", quick), path("slow", slow)]

_wsgi = ASGIAdapter(get_wsgi_application())


async def _bare(message: dict[str, Any], channels: dict[str, Any]) -> None:
    if message["path"] == "/sync":
        await _wsgi(message, channels)
    else:
        await sync_to_async(query)(0.2 if message["path"] == "/slow" else 0.002)
        await channels["reply"].send({"status": 200, "content": b"ok"})


bare = DjangoThreads(_bare)
django_asgi = DjangoThreads(get_asgi_application())
