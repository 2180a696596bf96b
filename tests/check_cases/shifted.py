"""Shifts with a weight, with a weight function, in a Mount, with a Router, and the wrong way round."""

from uvicorn import Mount, Route, Router, Shift, cookie


def site(environ, start_response):
    raise NotImplementedError


def page(message):
    raise NotImplementedError


async def search(message, channels):
    raise NotImplementedError


async def live(scope, receive, send):
    raise NotImplementedError


def share():
    raise NotImplementedError


def visitor(head):
    raise NotImplementedError


application = Router(
    Route("/search/*", Shift(site, search, weight=5, key=cookie("visitor"))),
    Route("/live", Shift(search, live, weight=share, key=visitor), protocol="websocket"),
    Mount("/in", Shift(site, Router(Route("/a", live), default=search))),
    Route("/wrong", Shift(live, page, weight=100), protocol="websocket"),
    default=site,
)
