"""Six ASGI frameworks on our server, as their users use them."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from websockets.sync.client import connect

from tests.adapters.hosts import Host, hosted
from tests.adapters.wire import ask, head_of
from tests.adapters.wire import connect as connect_socket
from tests.frameworks import BIG, FILE
from tests.frameworks.asgi_parts import EVENTS, JSON, STATE
from tests.waits import LONGEST_WAIT

FRAMEWORKS: Final = ["starlette", "fastapi", "django", "litestar", "quart", "blacksheep"]

#: Django takes no part in lifespan, and BlackSheep has no state of its own.
WITH_LIFESPAN: Final = [framework for framework in FRAMEWORKS if framework != "django"]
WITH_STATE: Final = [framework for framework in WITH_LIFESPAN if framework != "blacksheep"]

UPLOAD: Final = bytes(range(256)) * 12288


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted("uvicorn", f"tests.frameworks.asgi_{request.param}:app") as host:
        yield host


def of(*frameworks: str) -> pytest.MarkDecorator:
    """Run the test for these frameworks only."""
    return pytest.mark.parametrize("site", frameworks, indirect=True)


def test_framework_answers_with_json(site: Host) -> None:
    answer = ask(site.port, "/json")
    assert (answer.status, json.loads(answer.content)) == (200, JSON)


def test_framework_receives_an_upload(site: Host) -> None:
    answer = ask(site.port, "/upload", method="POST", content=UPLOAD)
    assert (answer.status, answer.content.decode()) == (200, f"{len(UPLOAD)} {hashlib.sha256(UPLOAD).hexdigest()}")


def test_framework_receives_a_chunked_upload(site: Host) -> None:
    chunks = [UPLOAD[:10], UPLOAD[10:100000], UPLOAD[100000:]]
    answer = ask(site.port, "/upload", method="POST", chunks=chunks)
    assert (answer.status, answer.content.decode()) == (200, f"{len(UPLOAD)} {hashlib.sha256(UPLOAD).hexdigest()}")


def test_framework_streams_a_download(site: Host) -> None:
    answer = ask(site.port, "/download")
    assert (answer.status, answer.complete, answer.content == BIG) == (200, True, True)


def test_framework_event_stream_sends_each_event_at_once(site: Host) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=LONGEST_WAIT)
    try:
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.read1().decode() == EVENTS[0]
        ask(site.port, "/go")
        assert response.read().decode() == EVENTS[1]
    finally:
        connection.close()


def test_framework_background_task_runs_after_the_response(site: Host) -> None:
    answer = ask(site.port, "/background")
    assert answer.content == b"begun"
    ask(site.port, "/go")
    site.wait_for_line("the work is done")


def test_framework_stream_ends_when_its_client_disconnects(site: Host) -> None:
    with connect_socket(site.port) as connection:
        connection.sendall(head_of("GET", "/wait"))
        while b"still here" not in connection.recv(65536):
            pass
    site.wait_for_line("the endless stream has ended")


def test_framework_responds_500_when_its_view_raises(site: Host) -> None:
    assert ask(site.port, "/fail").status == 500
    assert ask(site.port, "/json").status == 200


def test_framework_response_that_fails_midway_never_looks_complete(site: Host) -> None:
    assert not ask(site.port, "/fail-midway").complete


def test_unknown_path_gives_the_404_page_of_the_framework(site: Host) -> None:
    assert ask(site.port, "/nowhere").status == 404


def test_framework_websocket_echoes_messages(site: Host) -> None:
    with connect(f"ws://127.0.0.1:{site.port}/echo", open_timeout=LONGEST_WAIT) as websocket:
        for message in ("text", b"\x00\xff", "Grüße", "x" * 100000):
            websocket.send(message)
            assert websocket.recv(LONGEST_WAIT) == message


@of("starlette", "fastapi")
def test_disconnect_during_an_upload_is_not_logged_as_an_error(site: Host) -> None:
    with connect_socket(site.port) as connection:
        connection.sendall(head_of("POST", "/upload", [("Content-Length", "1000")]) + b"only a part")
    site.wait_for_line("<POST '/upload' COMPLETE>: client disconnected before the application finished")


@of("starlette", "fastapi", "django", "litestar", "blacksheep")
def test_framework_websocket_receives_the_close_code_of_the_client(site: Host) -> None:
    with connect(f"ws://127.0.0.1:{site.port}/echo", open_timeout=LONGEST_WAIT) as websocket:
        websocket.send("hello")
        websocket.recv(LONGEST_WAIT)
        websocket.close(4001)
    site.wait_for_line("echo ended with 4001")


@of(*WITH_STATE)
def test_lifespan_state_is_passed_to_requests(site: Host) -> None:
    assert ask(site.port, "/state").content.decode() == STATE


@of("starlette")
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_framework_middleware_changes_the_headers_of_a_file_response(site: Host, coding: str) -> None:
    answer = ask(site.port, "/behind/file", fields=[("Accept-Encoding", coding)])
    content = gzip.decompress(answer.content) if coding == "gzip" else answer.content
    assert content.decode() == Path(FILE).with_name("asgi_starlette.py").read_text()
    assert answer.values("x-marked") == ["yes"]


@of("fastapi")
def test_framework_receives_a_form_with_a_file(site: Host) -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        + bytes(100000)
        + b"\r\n--x--\r\n"
    )
    fields = [("Content-Type", "multipart/form-data; boundary=x")]
    assert ask(site.port, "/form", method="POST", fields=fields, content=form).content == b"a.txt 100000"


@of("django")
def test_http_consumer_of_django_channels_is_served(site: Host) -> None:
    assert ask(site.port, "/consumed", method="POST", content=b"abc").content == b"cba"


@of("django")
def test_synchronous_consumers_of_django_channels_exchange_messages(site: Host) -> None:
    url = f"ws://127.0.0.1:{site.port}/threaded"
    with connect(url, open_timeout=LONGEST_WAIT) as first, connect(url, open_timeout=LONGEST_WAIT) as second:
        first.send('{"n": 1}')
        assert [first.recv(LONGEST_WAIT), second.recv(LONGEST_WAIT)] == ['{"n": 1}'] * 2


@of("django")
def test_websocket_to_an_unknown_path_is_rejected(site: Host) -> None:
    with pytest.raises(Exception, match="HTTP 500"):
        connect(f"ws://127.0.0.1:{site.port}/nowhere", open_timeout=LONGEST_WAIT)


@pytest.mark.parametrize("framework", WITH_LIFESPAN)
def test_framework_shutdown_runs_when_the_server_stops(framework: str) -> None:
    with hosted("uvicorn", f"tests.frameworks.asgi_{framework}:app") as host:
        assert ask(host.port, "/json").status == 200
        assert host.stop() == 0
        assert "the site has shut down" in host.stderr
