"""Tests of the public release that fail on this package, each with its reason; for `scripts/public-tests`."""

from __future__ import annotations

from typing import Final

#: Files that are not run.
LEFT_OUT: Final = {
    "benchmarks": "no tests of behaviour",
    "protocols/test_http.py": "drive the protocol classes of the public release by hand",
    "protocols/test_http2.py": "HTTP/2 is not served",
    "protocols/test_websocket.py": "drive the protocol classes of the public release by hand",
    "supervisors/test_multiprocess.py": "drive the public release's handles of its processes by hand",
    "supervisors/test_reload.py": "drive the steps of the public release's reloaders by hand",
}

#: The files of which 90 % are asked for.
ASKED_FOR: Final = (
    "importer/", "middleware/test_logging.py", "middleware/test_proxy_headers.py", "test_config.py", "test_main.py",
    "test_ssl.py",
)  # fmt: skip

_ERRORS: Final = "an error that the user can correct is a ConfigError, and exit code 2 with one line"
_WORDS: Final = "errors of imports are worded otherwise: they name what there is, and suggest a name"
_LOG_FILES: Final = "replaces `open` of `uvicorn.config`; `uvicorn.logging` reads the file"
_NATIVE: Final = "looks for a middleware in `loaded_app`; the server does this itself"
_SOCKETS: Final = "replaces `Config.bind_socket`; the command opens every address of --bind"
_MOCK: Final = "replaces `Server.run` by nothing, and expects the exit code of a failed start"
_FORWARDED: Final = "an entry of X-Forwarded-For that is no address ends the list; those before it are not trusted"
_NAMES: Final = "calls a class that exists by name only"

REASONS: Final = {
    "importer/test_importer.py::test_invalid_attr": _WORDS,
    "importer/test_importer.py::test_invalid_format": _WORDS,
    "importer/test_importer.py::test_invalid_module": _WORDS,
    "middleware/test_logging.py::test_running_log_using_fd": "the line about an inherited socket has its URL",
    "middleware/test_proxy_headers.py::test_proxy_headers_invalid_x_forwarded_for": _FORWARDED,
    "middleware/test_proxy_headers.py::test_proxy_headers_trusted_hosts_malformed": _FORWARDED,
    "middleware/test_proxy_headers.py::test_proxy_headers_x_forwarded_for_port_shapes": _FORWARDED,
    "supervisors/test_signal.py::test_sigint_abort_req": "an aborted response is a reset connection",
    "test_auto_detection.py::test_http_auto": _NAMES,
    "test_auto_detection.py::test_websocket_auto": _NAMES,
    "test_cli.py::test_app_dir": _MOCK,
    "test_cli.py::test_cli_call_change_reload_run": _SOCKETS,
    "test_cli.py::test_cli_call_multiprocess_run": _SOCKETS,
    "test_cli.py::test_cli_call_server_run": _MOCK,
    "test_cli.py::test_cli_http2": "HTTP/2 is not served",
    "test_cli.py::test_cli_incomplete_app_parameter": "a module alone means its `application` or `app`",
    "test_cli.py::test_cli_uds": _SOCKETS,
    "test_config.py::test_app_factory": _ERRORS,
    "test_config.py::test_app_unimportable_module": _ERRORS,
    "test_config.py::test_app_unimportable_other": _ERRORS,
    "test_config.py::test_bind_fd_works_with_reload_or_workers": "the inherited socket is not bound",
    "test_config.py::test_custom_loop__not_importable_custom_loop_setup_function": _ERRORS,
    "test_config.py::test_env_file": "0 workers mean 1, as an attribute too",
    "test_config.py::test_http2_requires_zttp_protocol": "HTTP/2 is not served",
    "test_config.py::test_log_config_default": "use_colors is put into a copy of the given log_config",
    "test_config.py::test_log_config_json": _LOG_FILES,
    "test_config.py::test_log_config_pathlike": _LOG_FILES,
    "test_config.py::test_log_config_yaml": _LOG_FILES,
    "test_config.py::test_log_config_yaml_missing_pyyaml": _LOG_FILES,
    "test_config.py::test_proxy_headers": _NATIVE,
    "test_config.py::test_reload_excluded_subdirectories_are_removed": "there is no `reload_dirs_excludes`",
    "test_config.py::test_setup_event_loop_is_removed": "`setup_event_loop` does nothing, for its callers",
    "test_config.py::test_ws_websockets_emits_deprecation_warning": "there is one implementation of WebSockets",
    "test_config.py::test_wsgi_app": _NATIVE,
    "test_lifespan.py::test_lifespan_auto": _NAMES,
    "test_lifespan.py::test_lifespan_auto_with_error": _NAMES,
    "test_lifespan.py::test_lifespan_off": _NAMES,
    "test_lifespan.py::test_lifespan_on": _NAMES,
    "test_lifespan.py::test_lifespan_on_with_error": _NAMES,
    "test_lifespan.py::test_lifespan_scope_asgi2app": _NAMES,
    "test_lifespan.py::test_lifespan_scope_asgi3app": _NAMES,
    "test_lifespan.py::test_lifespan_state": _NAMES,
    "test_lifespan.py::test_lifespan_with_failed_shutdown": _NAMES,
    "test_lifespan.py::test_lifespan_with_failed_startup": _NAMES,
    "test_main.py::test_exit_on_create_server_with_invalid_host": _ERRORS,
    "test_main.py::test_run_fails_fast_in_parent_on_bad_app_path": _ERRORS,
    "test_main.py::test_run_imports_app_before_starting_event_loop": "replaces `Server.run`, which imports before it",
    "test_main.py::test_run_invalid_app_config_combination": _ERRORS,
    "test_main.py::test_run_match_config_params": "`Config` has app_dir besides, and `run` callback_notify",
    "test_server.py::test_reset_contextvars_asyncio": "a context variable of ours has the connection",
    "test_server.py::test_run_exits_with_startup_failure_on_unloadable_app": _ERRORS,
    "test_server.py::test_shutdown_on_early_exit_during_startup": "a stop during the startup cancels the startup",
    "test_ssl.py::test_default_ssl_context_factory_requires_ssl_certfile": _ERRORS,
    "test_ssl.py::test_ssl_context_factory_must_return_ssl_context": _ERRORS,
}
