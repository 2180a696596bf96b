"""`--root-path` and `--root-path-cut`: one public path for each path, whatever kind of application asks."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus import request
from tests.helpers import Conversation, Recorder, hello, settle, until
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway

SEGMENTS = st.lists(st.sampled_from(["api", "admin", "a", ""]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(target=SEGMENTS)
def test_a_path_that_a_proxy_has_cut_is_root_path_and_target(target: str) -> None:
    endpoint = Endpoint(root_path="/api", root_path_cut="yes")
    made = HTTPExchange(HTTPGateway(), endpoint, "GET", target.encode(), "1.1", [], False)
    assert (made.path, made.raw_path) == ("/api" + target, b"/api" + target.encode())


@given(one=SEGMENTS, other=SEGMENTS)
def test_two_targets_never_lead_to_one_path(one: str, other: str) -> None:
    for cut in ("yes", "no"):
        endpoint = Endpoint(root_path="/api", root_path_cut=cut)
        paths = [
            HTTPExchange(HTTPGateway(), endpoint, "GET", target.encode(), "1.1", [], False).path
            for target in (one, other)
        ]
        assert (paths[0] == paths[1]) is (one == other)


def wsgi_paths(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [repr((environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode()]


@pytest.mark.parametrize("cut", ["yes", "no", "auto"])
@pytest.mark.parametrize("target", [b"/api/show", b"/show", b"/apiary", b"/api", b"/"])
async def test_script_name_and_path_info_of_wsgi_make_up_the_path_of_channels(cut: str, target: bytes) -> None:
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
