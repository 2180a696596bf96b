"""A site without mistakes. Its hints concern a WSGI host."""

from flask import Flask

from uvicorn import Mount, Route, Router
from uvicorn.adapters import ASGIAdapter, WSGIAdapter

shop = Flask("shop")


async def live(message, channels):
    raise NotImplementedError


async def api(scope, receive, send):
    raise NotImplementedError


def guessed(request, respond):
    raise NotImplementedError


router = Router(
    Route("/api/*", api, host="api.example"),
    Route("/live", live, protocol="websocket"),
    Route("/form", guessed, methods=("POST",)),
    Route("/health", shop, threads=2),
    Mount("/shop", Router(Route("/cart", api), Route("/cart/", live), default=ASGIAdapter(shop, threads=4))),
    default=shop,
)
application = WSGIAdapter(router)
