"""A path with parameters, as other routers have them."""

from uvicorn import Route, Router


async def item(message, channels):
    raise NotImplementedError


application = Router(Route("/items/{id}", item))
