"""Calls that Django makes for each request take no thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.signals import request_started
from django.http import HttpRequest, HttpResponse
from django.middleware.cache import FetchFromCacheMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.gzip import GZipMiddleware
from django.middleware.locale import LocaleMiddleware
from django.test import override_settings
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS, StringConverter, get_converters
from django.utils.deprecation import MiddlewareMixin

from tests.django.site import TENANTS, django_site, get, run
from uvicorn.django import DjangoThreads
from uvicorn.django.housekeeping import arguments_of, leaves_nothing

Make = Callable[..., DjangoThreads]

CHANGED = SessionStore()
CHANGED["cart"] = 1


def test_arguments_are_read_from_a_partial_inside_the_partial_of_asgiref() -> None:
    assert arguments_of(partial(print, "loop", partial(int, "5"))) == ("5",)
    assert arguments_of(partial(int, "5")) == arguments_of(int) == ()


@pytest.mark.parametrize("function", [int, partial(int, "5"), partial(print, partial(int, "5")), partial(print, len)])
def test_unknown_function_is_assumed_to_change_thread_state(function: Any) -> None:
    assert not leaves_nothing(function)


class Hooked(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None: ...


def test_hook_of_site_middleware_is_assumed_to_change_thread_state() -> None:
    assert not leaves_nothing(hook(Hooked, "process_request", HttpRequest()))


@pytest.mark.parametrize("name", ["process_request", "process_response"])
def test_middleware_hook_without_arguments_is_assumed_to_change_thread_state(name: str) -> None:
    assert not leaves_nothing(hook(GZipMiddleware, "process_response"))
    assert not leaves_nothing(hook(SessionMiddleware, name))


def hook(middleware: type, name: str, *arguments: Any) -> Any:
    """Return the call of a hook as asgiref submits it."""
    return partial(print, "loop", partial(getattr(middleware(lambda request: None), name), *arguments))


def after(middleware: type, request: HttpRequest, response: HttpResponse | None = None) -> Any:
    return hook(middleware, "process_response", request, response or HttpResponse())


def request_with(**attributes: Any) -> HttpRequest:
    request = HttpRequest()
    vars(request).update(attributes)
    return request


@pytest.mark.parametrize(
    ("attributes", "changed", "expected"),
    [
        ({}, {}, True),
        ({"session": SessionStore("a" * 8)}, {}, True),
        ({"session": SessionStore("a" * 8)}, {"SESSION_SAVE_EVERY_REQUEST": True}, False),
        ({"session": SessionStore()}, {"SESSION_SAVE_EVERY_REQUEST": True}, True),
        ({"session": CHANGED}, {}, False),
        ({"session": object()}, {}, False),
    ],
)
def test_session_middleware_changes_thread_state_only_if_it_saves_the_session(
    attributes: dict[str, Any], changed: dict[str, Any], expected: bool
) -> None:
    with override_settings(**changed):
        assert leaves_nothing(after(SessionMiddleware, request_with(**attributes))) is expected


@pytest.mark.parametrize(
    ("used", "added", "expected"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_message_middleware_changes_thread_state_only_if_messages_are_used(
    used: bool, added: bool, expected: bool
) -> None:
    request = request_with(_messages=SimpleNamespace(used=used, added_new=added))
    assert leaves_nothing(after(MessageMiddleware, request)) is expected
    assert leaves_nothing(after(MessageMiddleware, request_with()))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"CSRF_USE_SESSIONS": True}, False),
        ({"CSRF_FAILURE_VIEW": "site.failed"}, False),
        ({"FILE_UPLOAD_HANDLERS": ["site.Handler"]}, False),
    ],
)
def test_csrf_middleware_changes_thread_state_only_if_it_calls_site_code(
    changed: dict[str, Any], expected: bool
) -> None:
    with override_settings(**changed):
        assert leaves_nothing(hook(CsrfViewMiddleware, "process_view", HttpRequest())) is expected


@pytest.mark.parametrize(
    ("middleware", "changed"),
    [
        (SessionMiddleware, {"SESSION_ENGINE": "site.sessions"}),
        (MessageMiddleware, {"MESSAGE_STORAGE": "site.Storage"}),
    ],
)
def test_custom_session_or_message_storage_is_assumed_to_change_thread_state(
    middleware: Any, changed: dict[str, str]
) -> None:
    calls = hook(middleware, "process_request", HttpRequest()), after(middleware, HttpRequest())
    assert all(map(leaves_nothing, calls))
    with override_settings(**changed):
        assert not any(map(leaves_nothing, calls))


class Response(HttpResponse): ...


def test_custom_response_class_is_assumed_to_change_thread_state() -> None:
    assert leaves_nothing(after(GZipMiddleware, HttpRequest()))
    assert not leaves_nothing(after(GZipMiddleware, HttpRequest(), Response()))


class Converter(StringConverter): ...


@pytest.fixture
def converter() -> Iterator[None]:
    register_converter(Converter, "site's")
    yield
    del REGISTERED_CONVERTERS["site's"]
    get_converters.cache_clear()


def test_custom_path_converter_is_assumed_to_change_thread_state(converter: None) -> None:
    assert leaves_nothing(hook(CommonMiddleware, "process_request", request_with(path_info="/page/")))
    assert not leaves_nothing(hook(CommonMiddleware, "process_request", request_with(path_info="/page")))
    assert leaves_nothing(after(LocaleMiddleware, request_with()))
    assert not leaves_nothing(after(LocaleMiddleware, request_with(), HttpResponse(status=404)))


def test_built_in_path_converters_change_no_thread_state() -> None:
    assert leaves_nothing(hook(CommonMiddleware, "process_request", request_with(path_info="/page")))
    assert leaves_nothing(after(LocaleMiddleware, request_with(), HttpResponse(status=404)))


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        ([], True),
        ([HttpRequest().close], True),
        ([request_with(_files={}).close], True),
        ([request_with(_files={"photo": [object()]}).close], False),
        ([BytesIO().close], False),
        ([lambda: None], False),
    ],
)
def test_closing_a_response_with_site_objects_may_change_thread_state(closes: list[Any], expected: bool) -> None:
    response: Any = HttpResponse()
    response._resource_closers = closes
    assert leaves_nothing(partial(print, "loop", partial(response.close))) is expected
    response = Response()
    response._resource_closers = closes
    assert not leaves_nothing(partial(print, "loop", partial(response.close)))


@pytest.mark.parametrize("middleware", [LoginRequiredMiddleware, FetchFromCacheMiddleware])
def test_database_middleware_of_django_is_assumed_to_change_thread_state(middleware: type) -> None:
    name = "process_view" if middleware is LoginRequiredMiddleware else "process_request"
    assert not leaves_nothing(hook(middleware, name, HttpRequest()))


async def test_50_views_without_database_access_start_no_thread(threads_of: Make) -> None:
    together = asyncio.Barrier(50)

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        assert site.lanes.requests.alive == 0
        return HttpResponse("ok")

    site = threads_of(django_site(view), threads=1)
    assert await asyncio.gather(*(get(site) for _ in range(50))) == [(200, "ok")] * 50


@pytest.mark.parametrize("uses", ["a middleware of the site", "a receiver of the site", "a query"])
async def test_request_keeps_its_thread_after_running_site_code_or_a_query(uses: str, threads_of: Make) -> None:
    def receive(**named: Any) -> None: ...

    async def view(request: HttpRequest) -> HttpResponse:
        if uses == "a query":
            await run("SELECT 1")
        assert site.lanes.requests.leases == 1
        return HttpResponse("ok")

    if uses == "a receiver of the site":
        request_started.connect(receive)
    try:
        site = threads_of(django_site(view, *([TENANTS] if uses == "a middleware of the site" else [])))
        assert await get(site) == (200, "ok")
    finally:
        request_started.disconnect(receive)
