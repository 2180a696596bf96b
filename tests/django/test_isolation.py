"""No request finds on its thread, on its connection or in its database session what another one has left there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse

from tests.django.site import TENANTS, django_site, event, execute, found, get, local
from uvicorn.django import DjangoThreads

Make = Callable[..., DjangoThreads]


async def test_120_requests_at_once_find_only_their_own_tenant_beside_websocket_events(threads_of: Make) -> None:
    # The threads are all taken before any request reads back what its middleware has left.
    together = asyncio.Barrier(4)

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        return HttpResponse(" ".join(await sync_to_async(found)()))

    async def on_event(message: dict[str, Any], channels: dict[str, Any]) -> None:
        def leave_traces() -> None:
            local.user = "a websocket"
            execute("SET app.tenant = 'a websocket'")

        await sync_to_async(leave_traces)()

    site = threads_of(django_site(view, TENANTS))
    websockets = DjangoThreads(on_event)
    websockets.lanes = site.lanes
    users = [f"user{number}" for number in range(120)]
    events = [event(websockets) for user in users]
    answers, _ = await asyncio.gather(
        asyncio.gather(*(get(site, user=user) for user in users)), asyncio.gather(*events)
    )
    assert answers == [(200, user) for user in users]
