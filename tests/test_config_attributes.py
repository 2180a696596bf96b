"""Keywords of `Config` as attributes: read, and changed until the application is loaded."""

from __future__ import annotations

import inspect
import logging
import pickle
import ssl
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.certificates import Certificates
from tests.helpers import hello
from tests.test_config import other_value
from uvicorn.errors import ConfigError
from uvicorn.keywords import FIELDS, RunOptions, SettingOptions
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Keywords of the public release's `Config`, less `env_file`, which is no attribute there.
PUBLIC = (
    "app host port uds fd loop http http2 ws ws_max_size ws_max_queue ws_ping_interval ws_ping_timeout "
    "ws_per_message_deflate lifespan log_config log_level access_log use_colors interface reload reload_dirs "
    "reload_delay reload_includes reload_excludes workers proxy_headers server_header date_header "
    "forwarded_allow_ips root_path limit_concurrency limit_max_requests limit_max_requests_jitter backlog "
    "timeout_keep_alive timeout_notify timeout_graceful_shutdown timeout_worker_healthcheck callback_notify "
    "ssl_keyfile ssl_certfile ssl_keyfile_password ssl_version ssl_cert_reqs ssl_ca_certs ssl_ciphers "
    "ssl_context_factory headers factory h11_max_incomplete_event_size reset_contextvars"
).split()


def config(**options: Any) -> uvicorn.Config:
    return uvicorn.Config(hello, log_config=None, **options)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_keyword_of_the_public_release_is_an_attribute_of_a_config(name: str) -> None:
    assert hasattr(config(), name)


@pytest.mark.parametrize("name", FIELDS)
def test_config_attribute_of_every_setting_has_the_value_that_the_caller_passes(name: str) -> None:
    value = other_value(FIELDS[name])
    assert getattr(config(**{name: value}), name) == value


@pytest.mark.parametrize("name", FIELDS)
def test_every_attribute_of_a_config_may_be_changed(name: str) -> None:
    value = other_value(FIELDS[name])
    made = config()
    setattr(made, name, value)
    assert (made.settings, getattr(made, name)) == (config(**{name: value}).settings, value)


def test_config_attribute_of_an_omitted_setting_has_the_default_value() -> None:
    assert (config().backlog, config().ws_max_queue, config().max_header_bytes) == (2048, 32, 65536)


def test_invalid_value_for_a_config_attribute_raises_and_keeps_the_old_value() -> None:
    made = config(backlog=100)
    with pytest.raises(ConfigError, match="backlog: expected a number not below 1, got 0"):
        made.backlog = 0
    assert (made.backlog, made.settings.backlog) == (100, 100)


def test_host_and_port_attributes_of_a_config_may_be_changed() -> None:
    made = config()
    made.host, made.port = "localhost", 0
    assert [(address.host, address.port) for address in made.addresses] == [("localhost", 0)]


def test_uds_attribute_of_a_config_may_be_changed() -> None:
    made = config(port=8001)
    made.uds = "app.sock"
    assert (made.addresses[0].path, made.port) == ("app.sock", 8001)


def test_headers_attribute_of_a_config_may_be_changed() -> None:
    made = config(headers=[("x-tea", "green")])
    made.headers = [*made.headers, ("x-cup", "1")]
    assert made.encoded_headers == [(b"x-tea", b"green"), (b"x-cup", b"1")]


def test_configure_logging_method_applies_a_changed_log_level() -> None:
    made = uvicorn.Config(hello)
    made.log_level = "debug"
    made.configure_logging()
    assert logging.getLogger("uvicorn").level == logging.DEBUG


def test_program_may_set_an_additional_attribute_of_a_config() -> None:
    made = config()
    assert not hasattr(made, "mine")
    made.mine = 1
    assert made.mine == 1


def test_pickled_config_keeps_a_changed_setting() -> None:
    made = uvicorn.Config("app:app", log_config=None)
    made.backlog = 100
    assert pickle.loads(pickle.dumps(made)).settings.backlog == 100


# What loading adds


def test_config_loads_the_application_once() -> None:
    made: list[Any] = []

    def factory() -> Any:
        made.append(hello)
        return hello

    loading = uvicorn.Config(factory, factory=True, log_config=None)
    assert (loading.loaded, loading.load_app(), loading.load_app(), loading.loaded) == (False, hello, hello, True)
    loading.load()
    assert made == [hello]


def test_interface_attribute_of_a_config_is_the_detected_kind_after_load() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    made = uvicorn.Config(app, log_config=None)
    before = made.interface
    made.load()
    assert (before, made.interface, made.asgi_version) == ("auto", "asgi3", "3.0")


def test_asgi_version_attribute_is_2_0_for_an_asgi_2_application() -> None:
    assert config(interface="asgi2").asgi_version == "2.0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Certificates(tmp_path_factory.mktemp("tls")).both


def test_ssl_attribute_of_a_config_is_the_tls_context(certificate: Path) -> None:
    made = config(ssl_certfile=certificate)
    assert (isinstance(made.ssl, ssl.SSLContext), made.ssl is made.ssl, made.is_ssl) == (True, True, True)


def test_ssl_attribute_of_a_config_is_None_without_a_certificate() -> None:
    assert (config().ssl, config().is_ssl) == (None, False)


def test_config_uses_a_tls_context_from_the_program() -> None:
    made = config()
    context = made.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert (made.ssl_context() is context, made.is_ssl) == (True, True)


def test_config_builds_a_new_tls_context_after_its_certificate_is_set(certificate: Path) -> None:
    made = config(ssl_certfile=certificate)
    first = made.ssl
    made.ssl_certfile = str(certificate)
    assert made.ssl is not first


def test_should_reload_attribute_is_true_only_for_an_application_given_by_name() -> None:
    assert (config(reload=True).should_reload, uvicorn.Config("app:app", reload=True).should_reload) == (False, True)


@pytest.mark.parametrize(("options", "expected"), [({}, False), ({"reload": True}, True), ({"workers": 2}, True)])
def test_use_subprocess_attribute_is_true_with_several_workers_or_with_reload(
    options: dict[str, Any], expected: bool
) -> None:
    assert config(**options).use_subprocess is expected


def test_setup_event_loop_method_of_a_config_does_nothing() -> None:
    config().setup_event_loop()


# Types


def test_error_for_an_unknown_keyword_is_a_TypeError_and_a_ConfigError() -> None:
    with pytest.raises(TypeError, match="unknown setting 'prot'; did you mean 'port'?") as caught:
        config(prot=8001)
    assert isinstance(caught.value, ConfigError)


def test_run_function_and_Config_class_declare_the_same_options() -> None:
    explicit = set(inspect.signature(uvicorn.Config).parameters) - {"app", "settings"}
    compatible = {"h11_max_incomplete_event_size", "http2", "reset_contextvars"}
    assert set(SettingOptions.__annotations__) == {*FIELDS, *compatible}
    assert set(RunOptions.__annotations__) == {*FIELDS, *compatible, *explicit}


@pytest.mark.parametrize("name", FIELDS)
def test_declared_type_of_a_keyword_includes_the_type_of_its_default(name: str) -> None:
    annotation: str = SettingOptions.__annotations__[name].__forward_arg__
    assert type(FIELDS[name].default).__name__ in annotation.split(" | ")


# What the public release does as well


def test_function_without_parameters_is_called_as_a_factory_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make() -> Any:
        return hello

    assert uvicorn.Config(make, log_config=None).load_app() is hello
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ASGI app factory detected." in caplog.text


def test_class_without_parameters_is_called_as_a_factory() -> None:
    class Application:
        async def __call__(self, message: Any, channels: Any) -> None: ...

    assert isinstance(uvicorn.Config(Application, log_config=None).load_app(), Application)


def test_workers_option_has_no_effect_with_reload(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        made = config(reload=True, workers=4)
    assert (made.workers, caplog.messages) == (1, ['"workers" flag is ignored when reloading is enabled.'])


@pytest.mark.parametrize("function", [uvicorn.Config, uvicorn.Config.__init__, uvicorn.run])
def test_signatures_of_Config_and_run_contain_every_keyword(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert set(RunOptions.__annotations__) <= set(parameters)
    assert (parameters["port"].default, parameters["backlog"].default) == (None, 2048)


@pytest.mark.parametrize(
    ("keywords", "http", "ws"),
    [
        ({}, "HttpToolsProtocol", "WebSocketsSansIOProtocol"),
        ({"http": "h11", "ws": "wsproto"}, "H11Protocol", "WSProtocol"),
        ({"http": H11Protocol, "ws": "none"}, "H11Protocol", "NoneType"),
    ],
)
def test_protocol_classes_in_a_config_are_placeholders(keywords: dict[str, Any], http: str, ws: str) -> None:
    made = config(**keywords)
    chosen = made.http_protocol_class.__name__, getattr(made.ws_protocol_class, "__name__", "NoneType")
    assert chosen == (http, ws)


def test_ssl_context_factory_that_returns_None_is_rejected() -> None:
    made = config(ssl_context_factory=lambda config, default: None)
    with pytest.raises(ConfigError, match=r"ssl_context_factory: expected an ssl.SSLContext, got NoneType"):
        made.ssl_context()


def test_log_level_of_0_keeps_the_level_in_the_log_config() -> None:
    log_config = {"version": 1, "disable_existing_loggers": False, "loggers": {"uvicorn": {"level": "DEBUG"}}}
    uvicorn.Config(hello, log_config=log_config, log_level=0)
    assert logging.getLogger("uvicorn.error").getEffectiveLevel() == logging.DEBUG


def test_reload_dirs_attribute_of_a_config_contains_Path_objects(tmp_path: Path) -> None:
    made = uvicorn.Config("shop:app", reload=True, reload_dirs=[str(tmp_path)], log_config=None)
    assert made.reload_dirs == [tmp_path.resolve()]


@pytest.mark.parametrize(
    ("app", "reload"),
    [("shop:app", False), (hello, True)],
    ids=["without reload", "with an application that cannot be imported again"],
)
def test_reload_dirs_are_ignored_with_a_warning_if_reload_is_off_or_impossible(
    app: Any, reload: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        made = uvicorn.Config(app, reload=reload, reload_dirs=[str(tmp_path)], log_config=None)
    assert (made.reload_dirs, len(caplog.messages)) == ([], 1)
    assert caplog.messages[0].startswith("Current configuration will not reload")


@pytest.mark.parametrize("variable", ["0", ""])
def test_workers_option_of_0_means_one_worker(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", variable)
    assert (config().workers, config(workers=0).workers) == (1, 1)


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"])
def test_log_level_applies_to_every_uvicorn_logger(name: str) -> None:
    uvicorn.Config(hello, log_level="error")
    assert logging.getLogger(name).level == logging.ERROR


def test_access_logger_has_no_handlers_if_the_access_log_is_off() -> None:
    uvicorn.Config(hello, access_log=False)
    assert logging.getLogger("uvicorn.access").handlers == []


def test_loop_option_with_the_value_none_disables_the_loop_factory() -> None:
    assert config(loop="none").get_loop_factory() is None


def test_forwarded_allow_ips_defaults_to_its_environment_variable_or_to_localhost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    before = config().forwarded_allow_ips
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert (before, config().forwarded_allow_ips) == ("127.0.0.1,::1", "10.0.0.1")
