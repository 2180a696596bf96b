"""Types for applications: our channels have what they promise, and applications of each kind fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

import pytest

from uvicorn import types
from uvicorn.broadcast.asgi3 import ASGI3Reply
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.interfaces.channels import BodyChannel
from uvicorn.interfaces.channels_websocket import WebSocketReply
from uvicorn.interfaces.consumer_sync import ThreadReplyChannel
from uvicorn.interfaces.http_reply import ReplyChannel

# A type checker compares these: that they are here is the test.


def replies(
    http: ReplyChannel, websocket: WebSocketReply, thread: ThreadReplyChannel, asgi: ASGI3Reply
) -> list[types.ReplyChannel]:
    return [http, websocket, thread, asgi]


def others(body: BodyChannel, groups: GroupsChannel) -> tuple[types.BodyChannel, types.GroupsChannel]:
    return body, groups


async def channels_app(message: types.Message, channels: types.Channels) -> None:
    await channels["reply"].send({"status": 200, "content": message["path"].encode()})


async def consumer(message: types.Message) -> None:
    await message["reply_channel"].send({"status": 204})


def plain_consumer(message: types.Message) -> None:
    message["reply_channel"].send({"status": 204})


def wsgi_app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


async def asgi_app(scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


CHANNELS: types.ChannelsApplication = channels_app
CONSUMERS: list[types.Consumer] = [consumer, plain_consumer]
WSGI: types.WSGIApplication = wsgi_app
ASGI: types.ASGIApplication = asgi_app


@pytest.mark.parametrize(
    ("kind", "promised"),
    [
        (ReplyChannel, types.ReplyChannel),
        (WebSocketReply, types.ReplyChannel),
        (ThreadReplyChannel, types.ReplyChannel),
        (ASGI3Reply, types.ReplyChannel),
        (BodyChannel, types.BodyChannel),
        (GroupsChannel, types.GroupsChannel),
    ],
)
def test_every_channel_class_has_the_members_of_its_public_type(kind: type, promised: type) -> None:
    names = [name for name in vars(promised) if not name.startswith("_")]
    assert (len(names) >= 2, [name for name in names if not hasattr(kind, name)]) == (True, [])


def test_every_type_for_applications_can_be_imported() -> None:
    assert [name for name in types.__all__ if not hasattr(types, name)] == []
