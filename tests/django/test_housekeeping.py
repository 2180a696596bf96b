"""What Django does for every request takes no thread for that request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.signals import request_started
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from tests.django.site import TENANTS, django_site, get, run
from uvicorn.django import DjangoThreads
from uvicorn.django.housekeeping import arguments_of, leaves_nothing

Make = Callable[..., DjangoThreads]


def test_arguments_are_those_of_the_call_that_asgiref_submits() -> None:
    assert arguments_of(partial(print, "loop", partial(int, "5"))) == ("5",)
    assert arguments_of(partial(int, "5")) == arguments_of(int) == ()


@pytest.mark.parametrize("function", [int, partial(int, "5"), partial(print, partial(int, "5")), partial(print, len)])
def test_calls_of_other_functions_are_not_known_to_leave_nothing(function: Any) -> None:
    assert not leaves_nothing(function)


class Hooked(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None: ...


def test_hook_of_a_site_may_leave_something() -> None:
    assert not leaves_nothing(partial(print, partial(Hooked(lambda request: None).process_request)))


async def test_views_that_use_no_database_hold_no_thread(threads_of: Make) -> None:
    together = asyncio.Barrier(50)

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        assert site.lanes.requests.alive == 0
        return HttpResponse("ok")

    site = threads_of(django_site(view), threads=1)
    assert await asyncio.gather(*(get(site) for _ in range(50))) == [(200, "ok")] * 50


@pytest.mark.parametrize("uses", ["a middleware of the site", "a receiver of the site", "a query"])
async def test_thread_is_the_request_s_once_something_may_be_left_on_it(uses: str, threads_of: Make) -> None:
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
