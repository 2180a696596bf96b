"""An entry that is written with the root path."""

from uvicorn import Route, Router


async def app(message, channels):
    raise NotImplementedError


application = Router(Route("/base/page", app), default=app)
