"""Detection of the interface from the parameters of an application."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from uvicorn import Route, Router
from uvicorn.adapters import WSGIAdapter
from uvicorn.errors import InterfaceError
from uvicorn.interfaces.channels import ChannelsInterface
from uvicorn.interfaces.channels_threads import Threaded
from uvicorn.interfaces.consumer import ConsumerInterface
from uvicorn.interfaces.detect import INTERFACE_NAMES, build_interface, detect_interface
from uvicorn.settings import Settings


async def channels_app(message: Any, channels: Any) -> None: ...


async def renamed_channels_app(event: Any, ways: Any) -> None: ...


def undecorated_channels_app(message: Any, channels: Any) -> Any: ...


async def channels_app_with_option(message: Any, channels: Any, depth: int = 0, *, loud: bool = False) -> None: ...


async def channels_app_with_setting(settings: Any, message: Any, channels: Any) -> None: ...


def wsgi_app(environ: Any, start_response: Any) -> Any: ...


def renamed_wsgi_app(env: Any, start: Any) -> Any: ...


async def asgi3_app(scope: Any, receive: Any, send: Any) -> None: ...


async def renamed_asgi3_app(a: Any, b: Any, c: Any) -> None: ...


def undecorated_asgi3_app(scope: Any, receive: Any, send: Any) -> Any: ...


def consumer(message: Any) -> Any: ...


def renamed_consumer(event: Any) -> Any: ...


class Consumer:
    def __init__(self, message: Any) -> None: ...


class ChannelsObject:
    async def __call__(self, message: Any, channels: Any) -> None: ...

    async def renamed(self, event: Any, ways: Any) -> None: ...

    @classmethod
    async def of_class(cls, event: Any, ways: Any) -> None: ...


class RenamedChannelsObject:
    async def __call__(self, event: Any, ways: Any) -> None: ...


class WSGIObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class ASGI3Object:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class ASGI2Object:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def asgi2_app(scope: Any) -> Any: ...


class DeclaredObject:
    __uvicorn_interface__ = "asgi3"

    def __call__(self, environ: Any, start_response: Any) -> Any: ...


def kept_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any: ...

    return wrapper


@pytest.mark.parametrize(
    ("app", "name"),
    [
        (channels_app, "channels"),
        (renamed_channels_app, "channels"),
        (undecorated_channels_app, "channels"),
        (channels_app_with_option, "channels"),
        (functools.partial(channels_app_with_setting, None), "channels"),
        (functools.partial(functools.partial(renamed_asgi3_app, None)), "channels"),
        (kept_signature(channels_app), "channels"),
        (kept_signature(renamed_channels_app), "channels"),
        (ChannelsObject(), "channels"),
        (RenamedChannelsObject(), "channels"),
        (ChannelsObject().renamed, "channels"),
        (ChannelsObject.of_class, "channels"),
        (functools.partial(RenamedChannelsObject()), "channels"),
        (wsgi_app, "wsgi"),
        (renamed_wsgi_app, "wsgi"),
        (WSGIObject(), "wsgi"),
        (asgi3_app, "asgi3"),
        (renamed_asgi3_app, "asgi3"),
        (undecorated_asgi3_app, "asgi3"),
        (ASGI3Object(), "asgi3"),
        (kept_signature(renamed_asgi3_app), "asgi3"),
        (functools.partial(renamed_asgi3_app), "asgi3"),
        (ASGI3Object().__call__, "asgi3"),
        (ASGI2Object, "asgi2"),
        (asgi2_app, "asgi2"),
        (consumer, "consumer"),
        (renamed_consumer, "consumer"),
        (Consumer, "consumer"),
    ],
)
def test_interface_is_detected_from_the_parameters_of_the_application(app: Any, name: str) -> None:
    assert detect_interface(app) == name


def test_interface_that_an_application_declares_takes_precedence_over_its_signature() -> None:
    assert detect_interface(DeclaredObject()) == "asgi3"


def undecided(app: Any) -> str:
    """What is said about an application that could be anything."""
    with pytest.raises(InterfaceError) as caught:
        detect_interface(app, "'app:make_app'")
    return str(caught.value)


def make_app(settings: Any, database: Any, cache: Any) -> Any: ...


def nothing() -> None: ...


def anything(*arguments: Any) -> None: ...


class Ambiguous:
    def __init__(self, event: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "seen"),
    [
        (make_app, "it takes (settings, database, cache)"),
        (nothing, "it takes ()"),
        (anything, "it takes (*arguments); pass --interface"),
        (Ambiguous, "it is a class that takes (event)"),
    ],
)
def test_error_for_an_ambiguous_application_shows_the_application_parameters(app: Any, seen: str) -> None:
    assert seen in undecided(app)


def test_error_for_an_ambiguous_application_lists_the_interfaces() -> None:
    assert undecided(make_app).endswith("; pass --interface channels, consumer, wsgi, asgi3 or asgi2")


def test_interface_detection_error_shows_the_import_string() -> None:
    assert undecided(make_app).startswith("cannot detect the interface of 'app:make_app': ")


def test_interface_detection_error_reports_an_unreadable_signature() -> None:
    assert "its signature cannot be read" in undecided(dict)


def test_application_that_is_not_callable_is_rejected() -> None:
    with pytest.raises(InterfaceError, match=r"^'app:thing' is not callable: .* got int 3$"):
        detect_interface(3, "'app:thing'")


def test_long_repr_of_a_noncallable_object_is_truncated_in_the_error() -> None:
    with pytest.raises(InterfaceError) as caught:
        detect_interface("x" * 10_000)
    assert len(str(caught.value)) < 300


# The interface that is made


def test_channels_application_gets_the_channels_interface() -> None:
    assert isinstance(build_interface(channels_app, Settings()), ChannelsInterface)


def test_interface_keeps_the_application_in_its_app_attribute() -> None:
    assert build_interface(channels_app, Settings()).app is channels_app


def test_configured_interface_takes_precedence_over_the_signature() -> None:
    assert build_interface(renamed_wsgi_app, Settings(interface="channels")).name == "channels"


def test_configured_interface_takes_precedence_over_the_declared_interface() -> None:
    assert build_interface(DeclaredObject(), Settings(interface="wsgi")).name == "wsgi"


def test_configured_interface_rejects_an_object_that_is_not_callable() -> None:
    with pytest.raises(InterfaceError, match="'app:thing' is not callable: expected an application, got int"):
        build_interface(3, Settings(interface="channels"), "'app:thing'")


@pytest.mark.parametrize("kind", [Router, WSGIAdapter, Threaded])
def test_route_to_the_class_Router_or_WSGIAdapter_or_Threaded_is_rejected(kind: type) -> None:
    with pytest.raises(
        InterfaceError, match=rf"^Route\('/a'\): {kind.__name__} is a class; expected an object, such as"
    ):
        Route("/a", kind)


async def coroutine_wsgi_app(environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "interface", "said"),
    [
        (
            wsgi_app,
            "channels",
            "'app:x' does not fit interface 'channels': it is a plain function that takes (environ, start_response), "
            "expected (message, channels); interface 'wsgi' would fit",
        ),
        (
            renamed_channels_app,
            "wsgi",
            "'app:x' does not fit interface 'wsgi': it is a coroutine function that takes (event, ways), "
            "expected a plain function that takes (environ, start_response); interface 'channels' would fit",
        ),
        (
            coroutine_wsgi_app,
            "auto",
            "'app:x' does not fit interface 'wsgi': it is a coroutine function that takes (environ, start_response), "
            "expected a plain function that takes (environ, start_response)",
        ),
        (
            functools.partial(asgi3_app, {}),
            "asgi3",
            "'app:x' does not fit interface 'asgi3': it is a coroutine function that takes (receive, send), "
            "expected (scope, receive, send); interface 'channels' would fit",
        ),
        (
            ChannelsObject,
            "wsgi",
            "'app:x' does not fit interface 'wsgi': it is a class that takes (), expected (environ, start_response)",
        ),
        (
            channels_app,
            "consumer",
            "'app:x' does not fit interface 'consumer': it is a coroutine function that takes (message, channels), "
            "expected (message); interface 'channels' would fit",
        ),
    ],
)
def test_application_that_does_not_fit_the_configured_interface_is_rejected(
    app: Any, interface: str, said: str
) -> None:
    with pytest.raises(InterfaceError) as raised:
        build_interface(app, Settings(interface=interface), "'app:x'")
    assert str(raised.value) == said


def injecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that hands on one argument more, so that the signature which `inspect` shows has one too many."""

    @functools.wraps(function)
    def wrapper(environ: Any, start_response: Any) -> Any:
        return function("database", environ, start_response)

    return wrapper


@injecting
def with_a_database(database: Any, environ: Any, start_response: Any) -> Any: ...


def made_plain(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(environ: Any, start_response: Any) -> Any: ...

    return wrapper


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (with_a_database, "wsgi"),
        (made_plain(coroutine_wsgi_app), "wsgi"),
        (functools.partial(channels_app_with_setting, None), "channels"),
        (channels_app_with_option, "channels"),
        (ASGI2Object, "asgi2"),
        (asgi2_app, "consumer"),
        (kept_signature(asgi3_app), "channels"),
        (print, "wsgi"),
        (dict.update, "channels"),
    ],
)
def test_application_that_fits_the_configured_interface_is_served(app: Any, interface: str) -> None:
    assert build_interface(app, Settings(interface=interface)).name == interface


def test_coroutine_function_with_a_scope_parameter_is_not_detected_as_asgi_2() -> None:
    async def app(scope: Any) -> None: ...

    with pytest.raises(InterfaceError, match=r"it takes \(scope\)"):
        detect_interface(app)


@pytest.mark.parametrize("factory", [lambda: channels_app, lambda **options: channels_app])
def test_error_for_a_function_without_parameters_suggests_the_factory_option(factory: Any) -> None:
    with pytest.raises(InterfaceError, match="pass --factory if it makes the application, or --interface channels"):
        detect_interface(factory)


def test_error_for_an_unsupported_interface_lists_the_supported_interfaces() -> None:
    class Unknown:
        __uvicorn_interface__ = "telepathy"

    with pytest.raises(
        InterfaceError, match=r"^interface of 'app:x': expected one of auto, channels, .*, got 'telepathy'$"
    ):
        build_interface(Unknown(), Settings(), "'app:x'")


def test_error_for_an_unknown_interface_lists_the_known_interfaces() -> None:
    with pytest.raises(InterfaceError, match=r"^interface: expected one of auto, channels, .*, got 'asgi'$"):
        build_interface(channels_app, Settings(interface="asgi"))


def test_choices_for_the_interface_setting_are_auto_and_every_interface_name() -> None:
    field = next(field for field in Settings.__dataclass_fields__.values() if field.name == "interface")
    assert set(field.metadata["choices"]) == {"auto", *INTERFACE_NAMES}


def test_middleware_has_the_interface_of_its_wrapped_application() -> None:
    class Middleware:
        def __init__(self, app: Any) -> None:
            self.__wrapped__ = app

        def __call__(self, *arguments: Any) -> Any:
            return self.__wrapped__(*arguments)

    async def consumer(message: Any) -> None: ...

    class Declared:
        __uvicorn_interface__ = "wsgi"

    assert detect_interface(Middleware(Middleware(consumer))) == "consumer"
    assert detect_interface(Middleware(Declared())) == "wsgi"
    assert isinstance(build_interface(Middleware(consumer), Settings()), ConsumerInterface)
