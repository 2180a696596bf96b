"""Entries that no request can reach."""

from uvicorn import Route, Router


async def app(message, channels):
    raise NotImplementedError


application = Router(
    Route("/exact", Router(Route("/exact/below", app))),
    Route("/shop/*", Router(Route("/elsewhere", app))),
    Route("/page", app, protocol="http"),
    Route("/page", app, protocol="websocket"),
    Route("/page", app),
)
