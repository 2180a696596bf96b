"""Translation of gunicorn's configuration to our settings."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config

from uvicorn.keywords import build_settings
from uvicorn.settings import Limits, Settings
from uvicorn.workers.gunicorn_settings import ignored_settings, keywords_of


def configured(**changed: Any) -> Config:
    cfg = Config()
    for name, value in changed.items():
        cfg.set(name, value)
    return cfg


def settings_of(**changed: Any) -> Settings:
    return build_settings(keywords_of(configured(**changed)))


def test_gunicorn_worker_uses_the_keepalive_default_of_gunicorn() -> None:
    assert settings_of().keep_alive_seconds == 2


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ({}, "threads", 16),
        ({"threads": 4}, "threads", 4),
        ({}, "limit_concurrency", 0),
        ({"worker_connections": 5}, "limit_concurrency", 5),
        ({"backlog": 9}, "backlog", 9),
        ({}, "watch_loop_seconds", 0),
        ({"reload": True}, "watch_loop_seconds", 0.2),
        ({"graceful_timeout": 30}, "graceful_seconds", 29),
        ({"graceful_timeout": 1}, "graceful_seconds", 0.5),
        ({"graceful_timeout": 0}, "graceful_seconds", 0),
    ],
)
def test_gunicorn_setting_is_translated_to_a_uvicorn_setting(changed: dict[str, Any], name: str, value: object) -> None:
    assert getattr(settings_of(**changed), name) == value


@pytest.mark.parametrize(("given", "limit"), [(4095, 4095), (0, 65536)])
def test_gunicorn_setting_limit_request_line_of_0_becomes_65536(given: int, limit: int) -> None:
    assert settings_of(limit_request_line=given).limits.max_request_line_bytes == limit


@pytest.mark.parametrize(("given", "root_path"), [("/mounted", "/mounted"), ("/mounted/", "/mounted"), ("/", "")])
def test_SCRIPT_NAME_in_the_environment_sets_the_root_path(
    given: str, root_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPT_NAME", given)
    assert settings_of().root_path == root_path


def test_proxy_is_assumed_to_strip_the_root_path_if_SCRIPT_NAME_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCRIPT_NAME", raising=False)
    assert settings_of().root_path_cut == "yes"
    monkeypatch.setenv("SCRIPT_NAME", "/mounted")
    assert settings_of().root_path_cut == "no"


def test_gunicorn_defaults_for_header_limits_do_not_change_the_uvicorn_limits() -> None:
    assert settings_of().limits == Limits()


def test_gunicorn_setting_limit_request_fields_limits_the_number_of_header_fields() -> None:
    assert settings_of(limit_request_fields=7).limits.max_header_fields == 7


def test_gunicorn_setting_with_its_default_value_is_not_reported_as_ignored() -> None:
    assert ignored_settings(configured()) == []


def test_changed_gunicorn_setting_without_effect_is_reported_as_ignored() -> None:
    assert ignored_settings(configured(limit_request_field_size=5, threads=3)) == ["limit_request_field_size"]
