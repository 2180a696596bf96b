"""An entry without an application."""

from uvicorn import Route, Router

application = Router(Route("/number", 42))
