"""A path with parameters in the syntax of other routers."""

from uvicorn import Route, Router


async def item(message, channels):
    raise NotImplementedError


application = Router(Route("/items/{id}", item))
