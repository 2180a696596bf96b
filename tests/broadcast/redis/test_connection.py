"""The order of replies from Redis, and the detection of silence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.redis import connection as module
from uvicorn.broadcast.redis.connection import ConnectionLost, RedisConnection
from uvicorn.broadcast.redis.resp import RedisRefusal, Reply


class RecordedConnection(RedisConnection):
    """A connection without a server. The test sends the replies."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, ...]] = []
        self.aborted = False
        self.transport = cast(asyncio.Transport, SimpleNamespace(abort=self.abort_transport))

    def send(self, *command: bytes) -> None:
        self.sent.append(command)

    def abort_transport(self) -> None:
        self.aborted = True


async def test_connection_closes_even_if_the_driver_never_calls_connection_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.001)
    connection = RecordedConnection()
    await connection.close("enough")
    assert connection.aborted


async def test_replies_are_matched_to_commands_in_order() -> None:
    connection = RecordedConnection()
    first, second = connection.execute(b"ONE"), connection.execute(b"TWO")
    connection.reply_received(b"1")
    connection.reply_received(b"2")
    assert (await first, await second) == (b"1", b"2")


async def test_next_command_does_not_get_the_reply_to_a_cancelled_command() -> None:
    connection = RecordedConnection()
    first, second = connection.execute(b"ONE"), connection.execute(b"TWO")
    first.cancel()
    connection.reply_received(RedisRefusal("ERR its caller was cancelled"))
    connection.reply_received(b"2")
    assert await second == b"2"
    assert connection.unanswered == 0


async def test_redis_error_reply_raises_in_the_caller_of_the_command() -> None:
    connection = RecordedConnection()
    answer = connection.execute(b"ONE")
    connection.reply_received(RedisRefusal("ERR no"))
    with pytest.raises(RedisRefusal, match="ERR no"):
        await answer


async def test_unanswered_commands_raise_when_the_connection_is_lost() -> None:
    connection = RecordedConnection()
    answer = connection.execute(b"ONE")
    connection.connection_lost(OSError("it fell"))
    with pytest.raises(ConnectionLost, match="it fell"):
        await answer
    assert connection.lost.result() == "it fell"


async def test_a_command_on_a_lost_connection_raises_at_once() -> None:
    connection = RecordedConnection()
    connection.connection_lost(OSError("it fell"))
    with pytest.raises(ConnectionLost, match="it fell"):
        await connection.execute(b"ONE")
    assert connection.sent == []


async def test_connection_reports_only_the_first_of_two_abort_reasons() -> None:
    connection = RecordedConnection()
    connection.abort("enough")
    connection.abort("again")
    connection.connection_lost(OSError("connection reset"))
    assert connection.lost.result() == "enough"
    assert connection.aborted


async def test_an_unexpected_reply_aborts_the_connection() -> None:
    connection = RecordedConnection()
    connection.reply_received(b"surprise")
    assert connection.aborted


async def test_lost_connection_reports_an_earlier_unexpected_error_as_the_reason() -> None:
    connection = RecordedConnection()
    connection.reply_received(RedisRefusal("ERR max number of clients reached"))
    connection.connection_lost(OSError("closed"))
    assert connection.lost.result() == "Redis refuses: ERR max number of clients reached"


async def test_connection_in_push_mode_passes_every_reply_to_the_push_callback() -> None:
    connection = RecordedConnection()
    pushes: list[Reply] = []
    connection.receive_pushes(pushes.append, lambda: None)
    for reply in (b"a", [b"b"], None):
        connection.reply_received(reply)
    assert pushes == [b"a", [b"b"], None]


@pytest.mark.parametrize("refusal", ["NOPERM x", "LOADING x", "BUSY x", "MASTERDOWN x"])
async def test_liveness_check_accepts_transient_and_permission_errors(refusal: str) -> None:
    connection = RecordedConnection()
    connection.send = lambda *command: connection.reply_received(RedisRefusal(refusal))  # type: ignore[method-assign]
    await connection.check_alive()


@pytest.mark.parametrize("refusal", ["NOAUTH x", "DENIED x", "ERR max number of clients reached"])
async def test_liveness_check_raises_for_a_login_error_or_too_many_clients(refusal: str) -> None:
    connection = RecordedConnection()
    connection.send = lambda *command: connection.reply_received(RedisRefusal(refusal))  # type: ignore[method-assign]
    with pytest.raises(RedisRefusal):
        await connection.check_alive()


# Silence is counted in steps of half a second; here they are taken by hand.


def take_steps(connection: RedisConnection, count: int) -> None:
    for _ in range(count):
        assert connection._step is not None
        connection._step.cancel()
        connection._take_step()


async def test_liveness_check_sends_one_ping_after_one_second_without_data() -> None:
    connection = RecordedConnection()
    connection.connection_made(connection.transport)
    take_steps(connection, 1)
    assert connection.sent == []
    take_steps(connection, 4)
    assert connection.sent == [(b"PING",)]
    connection.connection_lost(OSError("done"))
    await settle()


async def test_the_connection_is_aborted_after_three_seconds_without_a_byte() -> None:
    connection = RecordedConnection()
    connection.connection_made(connection.transport)
    take_steps(connection, 6)
    assert not connection.aborted
    take_steps(connection, 1)
    assert connection.aborted
    connection.connection_lost(OSError("done"))
    assert connection.lost.result() == "no byte received for 3 s, not even a reply to PING"


async def test_a_received_byte_restarts_the_liveness_check() -> None:
    connection = RecordedConnection()
    connection.connection_made(connection.transport)
    for _ in range(5):
        take_steps(connection, 5)
        connection.data_received(b"")
    assert not connection.aborted
    connection.connection_lost(OSError("done"))


async def test_blocked_event_loop_does_not_fail_the_liveness_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_STEP_SECONDS", 0.001)
    connection = RecordedConnection()
    connection.connection_made(connection.transport)
    began = connection._loop.time()
    # As long as twenty steps.
    while connection._loop.time() < began + 0.02:
        pass
    await until(lambda: connection._silent_steps > 0)
    assert not connection.aborted
    connection.connection_lost(OSError("done"))
