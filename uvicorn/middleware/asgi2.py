"""Makes an ASGI 2 application usable as an ASGI 3 application."""

from __future__ import annotations

from uvicorn._types import ASGI2Application, ASGIReceiveCallable, ASGISendCallable, Scope


class ASGI2Middleware:
    """An ASGI 3 application that runs the ASGI 2 application `app`."""

    def __init__(self, app: ASGI2Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await self.app(scope)(receive, send)
