"""The site for asynchronous servers."""

import os

from django.core.asgi import get_asgi_application
from uvicorn import Route, Router
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.django import DjangoThreads, login_required

from project import wsgi
from project.live import live
from project.ticks import ticks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_asgi_application()
asynchronous = DjangoThreads(application)
app = Router(
    Route("/", asynchronous),
    Route("/recent", asynchronous),
    Route("/ticks", ticks),
    Route("/live", BroadcastMiddleware(DjangoThreads(login_required(live)), gaps=False), protocol="websocket"),
    default=wsgi.application,
)
