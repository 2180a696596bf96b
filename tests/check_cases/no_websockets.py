"""A WebSocket entry for an application without WebSockets."""

from uvicorn import Route, Router


def page(environ, start_response):
    raise NotImplementedError


application = Router(Route("/live", page, protocol="websocket"))
