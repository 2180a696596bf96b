"""Two entries for the same requests."""

from uvicorn import Route, Router


async def one(message, channels):
    raise NotImplementedError


application = Router(Route("/page", one, methods=("GET", "POST")), Route("/page", one, methods=("POST", "PUT")))
