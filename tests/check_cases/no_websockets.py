"""A WebSocket entry for an application without WebSockets."""

from uvicorn import Route, Router


def page(message):
    raise NotImplementedError


application = Router(Route("/live", page, protocol="websocket"))
