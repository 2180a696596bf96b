"""`--root-path` and `--root-path-cut`: one public path for each path, the same for every kind of application."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus import request
from tests.helpers import Conversation, Recorder, hello, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway

SEGMENTS = st.lists(st.sampled_from(["api", "admin", "a", ""]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(target=SEGMENTS)
def test_path_includes_the_root_path_that_a_proxy_removed(target: str) -> None:
    endpoint = Endpoint(root_path="/api", root_path_cut="yes")
    made = HTTPExchange(HTTPGateway(), endpoint, "GET", target.encode(), "1.1", ((), ()), False)
    assert (made.path, made.raw_path) == ("/api" + target, b"/api" + target.encode())


@given(one=SEGMENTS, other=SEGMENTS)
def test_different_request_targets_map_to_different_paths(one: str, other: str) -> None:
    for cut in ("yes", "no"):
        endpoint = Endpoint(root_path="/api", root_path_cut=cut)
        paths = [
            HTTPExchange(HTTPGateway(), endpoint, "GET", target.encode(), "1.1", ((), ()), False).path
            for target in (one, other)
        ]
        assert (paths[0] == paths[1]) is (one == other)


def wsgi_paths(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [repr((environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode()]


@pytest.mark.parametrize("cut", ["yes", "no", "auto"])
@pytest.mark.parametrize("target", [b"/api/show", b"/show", b"/apiary", b"/api", b"/"])
async def test_SCRIPT_NAME_plus_PATH_INFO_equals_the_path_of_a_channels_message(cut: str, target: bytes) -> None:
    recorder = Recorder(hello)
    channels = Conversation(recorder, root_path="/api", root_path_cut=cut)
    channels.send(request(b"GET " + target + b" HTTP/1.1"))
    wsgi = Conversation(wsgi_paths, interface="wsgi", threads=1, root_path="/api", root_path_cut=cut)
    wsgi.send(request(b"GET " + target + b" HTTP/1.1"))
    await until(lambda: wsgi.received)
    await settle()
    script_name, path_info = ast.literal_eval(wsgi.responses()[0].content.decode())
    assert script_name + path_info == recorder.messages[0]["path"]
    await wsgi.interface.shutdown(0)


OUTSIDE = [b"GET /show HTTP/1.1", b"GET /apiary HTTP/1.1"]
BELOW = [b"GET /api HTTP/1.1", b"GET /api/show HTTP/1.1"]
ROOT_PATHS = [*((line, "") for line in OUTSIDE), *((line, "/api") for line in BELOW)]


class Kinds:
    """An application of each kind that records the root path of its request."""

    def __init__(self) -> None:
        self.root_path: str | None = None

    async def channels(self, message: Any, channels: Any) -> None:
        self.root_path = message["root_path"]

    async def consumer(self, message: Any) -> None:
        self.root_path = message["root_path"]

    async def asgi3(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.root_path = scope["root_path"]

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.root_path = environ["SCRIPT_NAME"]
        start_response("200 OK", [])
        return []


@pytest.mark.any_loop
@pytest.mark.parametrize("kind", ["channels", "consumer", "asgi3", "wsgi"])
@pytest.mark.parametrize(("line", "root_path"), ROOT_PATHS)
async def test_root_path_of_a_request_outside_the_mount_is_empty(kind: str, line: bytes, root_path: str) -> None:
    kinds = Kinds()
    conversation = Conversation(getattr(kinds, kind), interface=kind, threads=1, root_path="/api", root_path_cut="no")
    conversation.send(request(line))
    await until(lambda: conversation.received)
    assert kinds.root_path == root_path
    await conversation.interface.shutdown(0)


@pytest.mark.any_loop
@pytest.mark.parametrize("cut", ["yes", "no", "auto"])
@pytest.mark.parametrize("kind", ["channels", "consumer", "asgi3", "wsgi"])
async def test_root_path_of_an_OPTIONS_request_for_the_whole_server_is_empty(kind: str, cut: str) -> None:
    kinds = Kinds()
    conversation = Conversation(getattr(kinds, kind), interface=kind, threads=1, root_path="/api", root_path_cut=cut)
    conversation.send(request(b"OPTIONS * HTTP/1.1"))
    await until(lambda: conversation.received)
    assert kinds.root_path == ""
    await conversation.interface.shutdown(0)


@pytest.mark.any_loop
@pytest.mark.parametrize("kind", ["channels", "asgi3"])
@pytest.mark.parametrize(("path", "root_path"), [("/chat", ""), ("/api/chat", "/api")])
async def test_root_path_of_a_websocket_outside_the_mount_is_empty(kind: str, path: str, root_path: str) -> None:
    kinds = Kinds()
    conversation = WebSocketConversation(
        getattr(kinds, kind), path=path, interface=kind, root_path="/api", root_path_cut="no"
    )
    await conversation.open()
    assert kinds.root_path == root_path
    await conversation.lose()
