"""What today's users type works, or is refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.corpus import HANDSHAKE, request
from tests.helpers import Conversation, Recorder, hello, settle
from uvicorn.errors import ConfigError
from uvicorn.interfaces.base import Interface


def config(app: Any = hello, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"http": "auto"}, {"http": "httptools"}, {"ws": "auto"}, {"ws": "websockets"}, {"loop": "asyncio:Runner"},
        {"reset_contextvars": True}, {"timeout_notify": 30}, {"callback_notify": None}, {"limit_max_requests": None},
        {"h11_max_incomplete_event_size": None}, {"timeout_graceful_shutdown": None}, {"log_level": "trace"},
        {"headers": None}, {"loop": "none"}, {"ssl_keyfile": None}, {"forwarded_allow_ips": None}, {"workers": None},
    ],
    ids=str,
)  # fmt: skip
def test_supported_options_of_other_servers_cause_no_log_line(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        config(**options)
    assert caplog.messages == []


class H11Protocol:
    """A class that programs import from this package, as the public release has it."""

    __module__ = "uvicorn.protocols.http.h11_impl"


class Protocol(H11Protocol):
    """A class of the user's own."""

    __module__ = "shop.protocols"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"http": "h11"}, "http 'h11' has no effect; there is only one implementation"),
        ({"http": "zttp"}, "http 'zttp' has no effect; there is only one implementation"),
        ({"http": H11Protocol}, "http 'H11Protocol' has no effect; there is only one implementation"),
        (
            {"http": "uvicorn.protocols.http.auto:AutoHTTPProtocol"},
            "http 'uvicorn.protocols.http.auto:AutoHTTPProtocol' has no effect; there is only one implementation",
        ),
        ({"ws": "wsproto"}, "ws 'wsproto' has no effect; there is only one implementation"),
        ({"ws": "websockets-sansio"}, "ws 'websockets-sansio' has no effect; there is only one implementation"),
        (
            {"h11_max_incomplete_event_size": 65536},
            "h11_max_incomplete_event_size has no effect; see max_request_line_bytes and max_header_bytes",
        ),
        (
            {"loop": "zuvloop"},
            "loop 'zuvloop' has no effect; the event loop is uvloop if installed, otherwise asyncio's",
        ),
        ({"root_path": "/api/"}, "root_path '/api/' means '/api': the trailing slash has no effect"),
        ({"root_path": "/"}, "root_path '/' means '': the trailing slash has no effect"),
        ({"host": "127.0.0.1", "port": 80, "uds": "web.sock"}, "host and port have no effect beside uds"),
        ({"port": 80, "fd": 3}, "host and port have no effect beside fd"),
        ({"uds": "web.sock", "fd": 3}, "uds has no effect beside fd"),
    ],
    ids=str,
)
def test_ignored_option_of_another_server_is_logged_on_one_line(
    options: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        config(**options)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", line)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"http": "h12"},
            "expected one of auto, httptools, h11, zttp, got 'h12'; other implementations are not supported",
        ),
        ({"ws": "shop.protocols:Protocol"}, "got 'shop.protocols:Protocol'; other implementations are not supported"),
        ({"http": Protocol}, "got <class 'shop.protocols.Protocol'>; other implementations are not supported"),
        ({"http2": True}, "use a proxy in front that supports it"),
    ],
    ids=str,
)
def test_unsupported_options_of_other_servers_are_rejected_with_the_reason(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        config(**options)


def test_ws_ping_interval_of_None_turns_pings_off() -> None:
    assert config(ws_ping_interval=None).settings.ws_ping_interval == 0


def test_forwarded_allow_ips_option_may_be_a_list() -> None:
    assert config(forwarded_allow_ips=["10.0.0.1", "::1"]).settings.forwarded_allow_ips == "10.0.0.1,::1"


def test_trailing_slash_of_a_root_path_is_removed() -> None:
    assert config(root_path="/api/").settings.root_path == "/api"


async def test_handshake_is_served_as_an_http_request_if_websockets_are_off() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, ws=False)
    conversation.send(request(b"GET / HTTP/1.1", *HANDSHAKE))
    await settle()
    assert recorder.messages[0]["channel"] == "http.request"
    await conversation.lose()


# Fields of each response


async def response(**settings: Any) -> list[tuple[bytes, bytes]]:
    conversation = Conversation(hello, **settings)
    conversation.send(request())
    await settle()
    headers = conversation.responses()[0].headers
    await conversation.lose()
    return headers


async def test_configured_headers_are_added_to_every_response() -> None:
    headers = await response(headers=config(headers=[("X-Served-By", "us"), ("x-a", "b")]).settings.headers)
    assert (b"x-served-by", b"us") in headers
    assert (b"x-a", b"b") in headers


async def test_configured_server_field_replaces_the_default_server_field() -> None:
    headers = await response(headers=config(headers=[("Server", "theirs")]).settings.headers)
    assert [value for name, value in headers if name == b"server"] == [b"theirs"]


@pytest.mark.parametrize(
    "headers",
    [[("a b", "c")], [("a", "b\r\nc: d")], [("content-length", "1")], [("connection", "close")], [("a",)], ["ab", "c"]],
    ids=str,
)
def test_invalid_header_in_the_configuration_raises_ConfigError(headers: Any) -> None:
    with pytest.raises(ConfigError, match="headers: "):
        config(headers=headers)


# Factories and environment


def test_config_load_calls_the_application_factory() -> None:
    made: Interface = config(lambda: hello, factory=True).load()
    assert made.app is hello


def test_exception_in_an_application_factory_raises_ConfigError() -> None:
    with pytest.raises(ConfigError, match="factory: the application was called without arguments and failed with T"):
        config(lambda missing: hello, factory=True).load()


def test_error_for_a_failing_factory_has_the_first_line_of_its_exception() -> None:
    def build() -> None:
        raise ValueError("settings are missing\n\nRead the manual.")

    with pytest.raises(ConfigError) as raised:
        config(build, factory=True).load()
    assert str(raised.value) == (
        "factory: the application was called without arguments and failed with ValueError: settings are missing; "
        "expected a callable that returns the application"
    )


def test_env_file_sets_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLOUR_OF_TEA", raising=False)
    (tmp_path / ".env").write_text("COLOUR_OF_TEA=green\n")
    config(env_file=tmp_path / ".env")
    assert os.environ.pop("COLOUR_OF_TEA") == "green"


def test_env_file_does_not_override_a_variable_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR_OF_TEA", "black")
    (tmp_path / ".env").write_text("COLOUR_OF_TEA=green\n")
    config(env_file=tmp_path / ".env")
    assert os.environ["COLOUR_OF_TEA"] == "black"


def test_missing_env_file_raises_ConfigError(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="env_file: file not found: '.*/missing'"):
        config(env_file=tmp_path / "missing")
