"""`channels['groups']` is the application's interface to groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Any, final

from uvicorn.broadcast.encoding import group_name
from uvicorn.broadcast.hub import Hub, outcome
from uvicorn.broadcast.remote_members import owner_of
from uvicorn.channel import DONE, LazyAwaitable, channel_names, send_from_thread, shape
from uvicorn.errors import LocalProtocolError
from uvicorn.types import Message


@final
class GroupsChannel:
    """Adds clients to groups, and sends messages to groups in all processes."""

    __slots__ = ("_hub", "_reply")

    def __init__(self, hub: Hub, reply: Any = None) -> None:
        self._hub = hub
        self._reply = reply

    @property
    def name(self) -> str:
        """The name of this client's reply channel. Raises LocalProtocolError if the client has none."""
        if self._reply is None:
            raise LocalProtocolError("groups.name: this client has no reply channel, so it cannot join a group")
        name: str = self._reply.name
        return name

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send `{'group': name}` with one or more of these keys, which are handled in this order:

        - `'add': channel_name` adds a channel to the group.
        - `'discard': channel_name` removes a channel from the group.
        - `'send': message` sends a message to all members, in all processes.

        Awaiting the result is optional. On a worker thread, the call blocks until all keys are handled.

        Raises LocalProtocolError for an invalid message. Awaiting raises BroadcastUnavailable if publishing fails.
        """
        hub = self._hub
        if get_ident() != hub.thread:
            return send_from_thread(hub.loop, self.send, message)
        if not isinstance(message, dict):
            raise LocalProtocolError(f"groups.send: expected a dict, got {type(message).__name__}")
        group = group_name(message.get("group"))
        added, discarded, sent = message.get("add"), message.get("discard"), message.get("send")
        if added is None and discarded is None and sent is None:
            raise LocalProtocolError(
                f"groups.send: expected any of the keys 'add', 'discard' and 'send', got {shape(message)}"
            )
        pending: list[asyncio.Future[None]] = []
        if added is not None:
            self._add(group, _channel_name(added), pending)
        if discarded is not None:
            self._discard(group, _channel_name(discarded), pending)
        if sent is not None:
            pending.append(hub.publish(group, sent, tuple(pending)))
        if all(future.done() and not future.cancelled() and future.exception() is None for future in pending):
            return DONE
        return LazyAwaitable(partial(_outcomes, pending))

    def on_gap(self, callback: Callable[[Message], object]) -> None:
        """Call `callback(event)` whenever this client may have missed messages. `callback` may be a coroutine function.

        The event is `{'channel': 'groups.gap', 'groups': [...], 'reason': ..., 'since': ...}`. If no callback is set,
        a channels application receives the event.

        Raises LocalProtocolError if the client has no reply channel.
        """
        self._hub.gap_callbacks[self.name] = callback
        self._reply.on_close(partial(self._hub.gap_callbacks.pop, self.name, None))

    def _add(self, group: str, name: str, pending: list[asyncio.Future[None]]) -> None:
        member = self._hub.members.get(name)
        if member is not None:
            reply = member.reply
        elif self._reply is not None and self._reply.name == name:
            reply = self._reply
        else:
            reply = channel_names.find(name)
        if reply is not None and self._hub.owns(reply):
            waiting = self._hub.add(group, name, reply, copy_context())
            if waiting is not None:
                pending.append(waiting)
        elif reply is not None or owner_of(name) != channel_names.process:
            pending.append(self._hub.start_sending(self._hub.remote_members.request("add", group, name)))

    def _discard(self, group: str, name: str, pending: list[asyncio.Future[None]]) -> None:
        if name in self._hub.members:
            self._hub.discard(group, name)
        elif owner_of(name) != channel_names.process or not self._hub.owns(channel_names.find(name)):
            pending.append(self._hub.start_sending(self._hub.remote_members.request("discard", group, name)))


def _channel_name(name: Any) -> str:
    if not isinstance(name, str):
        raise LocalProtocolError(f"groups.send: expected a name such as channels['reply'].name, got {name!r:.100}")
    return name


async def _outcomes(pending: list[asyncio.Future[None]]) -> None:
    for future in pending:
        await outcome(future)
