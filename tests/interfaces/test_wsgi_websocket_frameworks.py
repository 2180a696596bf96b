"""WebSockets in views of WSGI frameworks, which respond after each view (rules W1 to W3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bottle
import falcon
import flask
import pytest

from tests.helpers import until
from tests.interfaces.wsgi_websockets import opened


def converse(environ: dict[str, Any]) -> str:
    """Echo one message. `fail` raises."""
    websocket = environ["uvicorn.websocket"]
    message = websocket.receive()
    if message == "fail":
        raise ValueError("as asked")
    websocket.send(message)
    return "not sent"


def flask_site() -> Any:
    app = flask.Flask(__name__)
    # Werkzeug's routes are for WebSockets or for other requests.
    app.add_url_rule("/chat", "chat", lambda: converse(flask.request.environ), websocket=True)
    app.add_url_rule("/login", "login", lambda: flask.redirect("/elsewhere"), websocket=True)
    return app


def bottle_site() -> Any:
    app = bottle.Bottle()
    app.get("/chat", callback=lambda: converse(bottle.request.environ))
    app.get("/login", callback=lambda: bottle.redirect("/elsewhere", 302))
    return app


class FalconChat:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = converse(request.env)


class FalconLogin:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        raise falcon.HTTPFound("/elsewhere")


def falcon_site() -> Any:
    app = falcon.App()
    app.add_route("/chat", FalconChat())
    app.add_route("/login", FalconLogin())
    return app


SITES: dict[str, Callable[[], Any]] = {"flask": flask_site, "bottle": bottle_site, "falcon": falcon_site}


@pytest.mark.parametrize("name", SITES)
async def test_W2_framework_view_that_used_a_websocket_sends_no_http_response(name: str) -> None:
    site = await opened(SITES[name]())
    assert await site.answer() == 101
    await site.say("hello")
    assert await site.close_frame() == 1000
    assert site.heard == ["hello"]
    assert b"not sent" not in site.received
    await site.end()


@pytest.mark.parametrize("name", SITES)
async def test_W2_exception_in_a_framework_view_closes_the_websocket_with_1011(name: str) -> None:
    site = await opened(SITES[name]())
    assert await site.answer() == 101
    await site.say("fail")
    assert await site.close_frame() == 1011
    await site.end()


@pytest.mark.parametrize("name", SITES)
async def test_W3_redirect_of_a_framework_answers_the_handshake(name: str) -> None:
    site = await opened(SITES[name](), path="/login")
    await until(lambda: site.received)
    assert await site.answer() == 302
    await site.end()
