"""The site in Django. Its WebSocket is a consumer of the package channels."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from tests.frameworks import asgi_parts as parts

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, JsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path, re_path  # noqa: E402

_tasks: set[asyncio.Task[None]] = set()


def json(request: HttpRequest) -> HttpResponse:
    """A plain function, which Django runs on a thread."""
    return JsonResponse(parts.JSON)


@csrf_exempt  # type: ignore[untyped-decorator, unused-ignore]
async def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{len(request.body)} {hashlib.sha256(request.body).hexdigest()}")


async def download(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.pieces(), content_type="application/octet-stream")


async def events(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.events(), content_type="text/event-stream")


async def idle(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.idle(), content_type="text/event-stream")


async def busy(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.busy(), content_type="text/event-stream")


async def go(request: HttpRequest) -> HttpResponse:
    parts.go()
    return HttpResponse("gone")


async def background(request: HttpRequest) -> HttpResponse:
    """Start a task, because Django has no background tasks of its own."""
    task = asyncio.create_task(parts.work())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return HttpResponse("begun")


async def wait(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.endless())


async def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("a failing view")


async def fail_midway(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.broken_pieces())


urlpatterns = [
    path("json", json),
    path("upload", upload),
    path("download", download),
    path("events", events),
    path("idle", idle),
    path("busy", busy),
    path("go", go),
    path("background", background),
    path("wait", wait),
    path("fail", fail),
    path("fail-midway", fail_midway),
]


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        parts.say(f"echo ended with {code}")


class Threaded(JsonWebsocketConsumer):  # type: ignore[misc]
    """A synchronous consumer, which the package channels runs on threads. All consumers are in one group."""

    groups = ["everybody"]

    def receive_json(self, content: Any, **options: Any) -> None:
        from asgiref.sync import async_to_sync

        async_to_sync(self.channel_layer.group_send)("everybody", {"type": "tell", "content": content})

    def tell(self, event: dict[str, Any]) -> None:
        self.send_json(event["content"])


class Consumed(AsyncHttpConsumer):  # type: ignore[misc]
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, body[::-1], headers=[(b"content-type", b"text/plain")])


app = ProtocolTypeRouter(
    {
        "http": URLRouter([path("consumed", Consumed.as_asgi()), re_path("", get_asgi_application())]),
        "websocket": URLRouter([path("echo", Echo.as_asgi()), path("threaded", Threaded.as_asgi())]),
    }
)
