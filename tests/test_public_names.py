"""Names that programs import from the public release: the modules that have them, the table, and `uvicorn.main`."""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

import uvicorn
from tests.public_names import ROWS, Row, table
from tests.test_layers import FILES, PUBLIC_NAMES, layer_of_file, module_of
from uvicorn._compat import asyncio_run
from uvicorn.errors import ConfigError
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.middleware.asgi2 import ASGI2Middleware
from uvicorn.middleware.message_logger import MessageLoggerMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.middleware.wsgi import WSGIMiddleware, build_environ
from uvicorn.protocols.utils import (
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)

PAGE: Final = Path(uvicorn.__file__).parents[1] / "docs" / "from-uvicorn.md"

Message = dict[str, Any]


async def hello(message: Message, channels: Message) -> None:
    await channels["reply"].send({"status": 200, "content": b"hello"})


# The table


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.module}-{row.works}" for row in ROWS])
def test_every_listed_name_of_the_public_release_can_be_imported(row: Row) -> None:
    if row.module == "uvicorn.workers":
        pytest.importorskip("gunicorn")
    module = importlib.import_module(row.module)
    assert [name for name in row.names.split() if not hasattr(module, name)] == []


@pytest.mark.parametrize("row", [row for row in ROWS if not row.works], ids=lambda row: row.module)
def test_call_of_a_placeholder_class_raises_NotImplementedError(row: Row) -> None:
    module = importlib.import_module(row.module)
    for name in row.names.split():
        with pytest.raises(NotImplementedError, match="can be imported, but not called"):
            getattr(module, name)(uvicorn.Config(hello, log_config=None))


def test_every_compatibility_module_is_in_the_table_of_public_names() -> None:
    thin = {module_of(file) for file in FILES if layer_of_file(file) in PUBLIC_NAMES and file.name != "__init__.py"}
    assert thin - {row.module for row in ROWS} == {"uvicorn.protocols.placeholder"}


def test_public_release_page_contains_the_table_of_names() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["HTTP_PROTOCOLS", "WS_PROTOCOLS", "LIFESPAN", "LOOP_FACTORIES"])
def test_every_import_path_in_the_constants_of_uvicorn_config_can_be_imported(name: str) -> None:
    named = [value for value in getattr(uvicorn.config, name).values() if value is not None]
    for value in named:
        module, _, attribute = value.partition(":")
        assert hasattr(importlib.import_module(module), attribute)


# uvicorn.main


@pytest.mark.parametrize(
    "first",
    [
        "import uvicorn",
        "import uvicorn.main",
        "from uvicorn.main import run",
        "import uvicorn.cli",
        "import uvicorn.server",
    ],
)
def test_uvicorn_main_is_a_click_command_whichever_module_is_imported_first(first: str) -> None:
    program = f"{first}\nimport click, uvicorn\nassert isinstance(uvicorn.main, click.Command), uvicorn.main"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_click_test_runner_can_run_the_command() -> None:
    result = CliRunner().invoke(uvicorn.main, ["--version"])
    assert (result.exit_code, result.output.split()[1:3]) == (0, ["uvicorn", uvicorn.__version__])


def test_command_calls_the_run_function_with_the_parsed_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, Message]] = []
    main = importlib.import_module("uvicorn.main")
    monkeypatch.setattr(main, "run", lambda app, **options: calls.append((app, options)))
    result = CliRunner().invoke(uvicorn.main, ["shop:app", "--port", "8001"])
    assert (result.exit_code, calls[0][0], calls[0][1]["port"]) == (0, "shop:app", 8001)


def test_environment_variable_UVICORN_APP_names_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(importlib.import_module("uvicorn.main"), "run", lambda app, **options: calls.append(app))
    result = CliRunner().invoke(uvicorn.main, [], env={"UVICORN_APP": "shop:app"})
    assert (result.exit_code, calls) == (0, ["shop:app"])


def test_server_command_has_the_name_main_in_a_click_group(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    group = click.Group("shop")
    group.add_command(uvicorn.main)
    monkeypatch.setattr(importlib.import_module("uvicorn.main"), "run", lambda app, **options: calls.append(app))
    result = CliRunner().invoke(group, ["main", "shop:app"])
    assert (result.exit_code, calls) == (0, ["shop:app"])


def test_command_in_a_click_group_reports_a_missing_application_in_one_line() -> None:
    group = click.Group("shop")
    group.add_command(uvicorn.main)
    result = CliRunner().invoke(group, ["main", "no_such_shop:app", "--port", "0"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_run_with_an_invalid_port_prints_one_line_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        uvicorn.run(hello, port=-1, log_config=None)
    assert (caught.value.code, capsys.readouterr().err) == (
        2,
        "uvicorn: port: expected a number from 0 to 65535, got -1\n",
    )


def test_run_on_another_thread_with_an_invalid_port_raises_ConfigError() -> None:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            uvicorn.run(hello, port=-1, log_config=None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] == [ConfigError]


# Middleware


async def ask(app: Any, scope: Message) -> list[Message]:
    """What `app` sends for a request without content."""
    sent: list[Message] = []
    received: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not received:
            await asyncio.Event().wait()
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def scope_of(*headers: tuple[bytes, bytes], client: tuple[str, int] | None = ("10.0.0.1", 1), **more: Any) -> Message:
    return {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/ä b",
        "query_string": b"q=1", "root_path": "", "headers": list(headers), "client": client,
        "server": ("127.0.0.1", 80), **more,
    }  # fmt: skip


async def echo(scope: Message, receive: Any, send: Any) -> None:
    """Answer with the scope."""
    await send(scope)


FORWARDED: Final = ((b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"))


@pytest.mark.any_loop
@pytest.mark.parametrize("trusted", ["10.0.0.1", "*", ["10.0.0.0/8"], "127.0.0.1, 10.0.0.1"])
async def test_proxy_headers_middleware_sets_client_and_scheme_for_a_trusted_peer(trusted: str | list[str]) -> None:
    [seen] = await ask(ProxyHeadersMiddleware(echo, trusted), scope_of(*FORWARDED))
    assert (seen["client"], seen["scheme"]) == (("1.2.3.4", 0), "https")


@pytest.mark.any_loop
@pytest.mark.parametrize("client", [("10.0.0.1", 1), None, ("elsewhere", 1)])
async def test_proxy_headers_middleware_ignores_the_headers_of_an_untrusted_peer(
    client: tuple[str, int] | None,
) -> None:
    [seen] = await ask(ProxyHeadersMiddleware(echo), scope_of(*FORWARDED, client=client))
    assert (seen["client"], seen["scheme"]) == (client, "http")


@pytest.mark.any_loop
async def test_proxy_headers_middleware_can_trust_a_client_without_an_ip_address() -> None:
    app = ProxyHeadersMiddleware(echo, trusted_hosts=["testclient"])
    [seen] = await ask(app, scope_of(*FORWARDED, client=("testclient", 50000)))
    assert seen["client"] == ("1.2.3.4", 0)


@pytest.mark.any_loop
async def test_proxy_headers_middleware_sets_the_scheme_wss_for_a_websocket() -> None:
    scope = scope_of(*FORWARDED, type="websocket", scheme="ws")
    [seen] = await ask(ProxyHeadersMiddleware(echo, "*"), scope)
    assert seen["scheme"] == "wss"


@pytest.mark.any_loop
async def test_proxy_headers_middleware_keeps_the_scheme_ws_if_no_scheme_is_forwarded() -> None:
    [seen] = await ask(ProxyHeadersMiddleware(echo, "*"), scope_of(FORWARDED[0], type="websocket", scheme="ws"))
    assert (seen["client"], seen["scheme"]) == (("1.2.3.4", 0), "ws")


@pytest.mark.any_loop
async def test_proxy_headers_middleware_does_not_change_a_lifespan_scope() -> None:
    assert await ask(ProxyHeadersMiddleware(echo, "*"), {"type": "lifespan"}) == [{"type": "lifespan"}]


def site(environ: Message, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [threading.current_thread().name.encode(), environ["PATH_INFO"].encode("latin-1")]


async def test_wsgi_middleware_calls_the_application_on_a_worker_thread() -> None:
    app = WSGIMiddleware(site, workers=2)
    head, *rest = await ask(app, scope_of())
    content = b"".join(message.get("body", b"") for message in rest)
    assert (head["status"], content.endswith("/ä b".encode()), b"MainThread" in content) == (200, True, False)


def test_wsgi_middleware_with_zero_threads_raises_ConfigError() -> None:
    with pytest.raises(ConfigError, match="threads: expected a number not below 1, got 0"):
        WSGIMiddleware(site, workers=0)


def test_environ_of_the_wsgi_middleware_has_the_query_string_and_the_content() -> None:
    environ = build_environ(scope_of(), {}, io.BytesIO(b"tea"))
    assert (environ["QUERY_STRING"], environ["wsgi.input"].read()) == ("q=1", b"tea")


@pytest.mark.any_loop
async def test_asgi2_middleware_calls_the_application_and_then_the_returned_callable() -> None:
    def app(scope: Message) -> Any:
        async def second(receive: Any, send: Any) -> None:
            await send({"path": scope["path"]})

        return second

    assert await ask(ASGI2Middleware(app), scope_of()) == [{"path": "/ä b"}]


@pytest.mark.any_loop
async def test_message_logger_logs_the_size_of_content_without_the_content(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.body", "body": b"secret"})

    with caplog.at_level(TRACE_LOG_LEVEL, logger="uvicorn.asgi"):
        await ask(MessageLoggerMiddleware(app), scope_of((b"cookie", b"secret")))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("10.0.0.1:1 - ASGI [1] Started scope=")
    assert lines[1:] == [
        "10.0.0.1:1 - ASGI [1] Receive {'type': 'http.request', 'body': '<0 bytes>', 'more_body': False}",
        "10.0.0.1:1 - ASGI [1] Send {'type': 'http.response.body', 'body': '<6 bytes>'}",
        "10.0.0.1:1 - ASGI [1] Completed",
    ]
    assert not any("secret" in line for line in lines)


@pytest.mark.any_loop
async def test_message_logger_logs_an_exception_of_the_application_and_raises_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        raise ValueError("mine")

    with caplog.at_level(TRACE_LOG_LEVEL, logger="uvicorn.asgi"), pytest.raises(ValueError, match="mine"):
        await ask(MessageLoggerMiddleware(app), scope_of(client=None))
    assert caplog.records[-1].getMessage() == "ASGI [1] Raised exception: ValueError"


# Helpers


def test_protocol_utils_read_the_client_and_the_path_from_a_scope() -> None:
    assert (get_client_addr(scope_of()), get_client_addr({})) == ("10.0.0.1:1", "")
    assert get_path_with_query_string(scope_of()) == "/%C3%A4%20b?q=1"


async def test_protocol_utils_return_the_local_and_remote_address_of_a_transport() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *listening.getsockname())
        accepted, address = listening.accept()
        with accepted:
            assert (get_remote_addr(transport), get_local_addr(transport)) == (listening.getsockname(), address)
            assert not is_ssl(transport)
        transport.abort()


async def test_address_of_an_unnamed_unix_socket_is_None() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        assert (get_remote_addr(transport), get_local_addr(transport)) == (None, None)
        transport.abort()


def test_asyncio_run_uses_the_given_loop_factory() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(asyncio.new_event_loop())
        return made[0]

    assert asyncio_run(main(), loop_factory=factory) is made[0]


@pytest.mark.parametrize("name", ["auto", "asyncio", "uvloop"])
def test_each_module_of_uvicorn_loops_returns_an_event_loop_factory(name: str) -> None:
    module = importlib.import_module(f"uvicorn.loops.{name}")
    loop = getattr(module, f"{name}_loop_factory")(use_subprocess=True)()
    loop.close()
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_modules_main_and_server_and_config_use_the_logger_uvicorn_error() -> None:
    names = ("uvicorn.main", "uvicorn.server", "uvicorn.config")
    loggers = {importlib.import_module(name).logger for name in names}
    assert loggers == {logging.getLogger("uvicorn.error")}
