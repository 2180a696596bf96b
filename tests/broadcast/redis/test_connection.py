"""The order of a conversation with Redis, and how silence is noticed."""

from __future__ import annotations

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.redis import connection as module
from uvicorn.broadcast.redis.connection import ConnectionLost, RedisConnection
from uvicorn.broadcast.redis.resp import RedisRefusal, Reply


class RecordedConnection(RedisConnection):
    """A connection to nobody: the test speaks for Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, ...]] = []
        self.aborted = False

    def send(self, *command: bytes) -> None:
        self.sent.append(command)

    def abort_transport(self) -> None:
        self.aborted = True


async def test_closing_a_link_whose_driver_does_not_see_its_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.001)
    connection = RecordedConnection()
    await connection.close("enough")
    assert connection.aborted


async def test_answers_come_in_the_order_of_the_questions() -> None:
    connection = RecordedConnection()
    first, second = connection.execute(b"ONE"), connection.execute(b"TWO")
    connection.reply_received(b"1")
    connection.reply_received(b"2")
    assert (await first, await second) == (b"1", b"2")


async def test_the_answer_to_a_question_that_was_cancelled_is_not_given_to_the_next() -> None:
    connection = RecordedConnection()
    first, second = connection.execute(b"ONE"), connection.execute(b"TWO")
    first.cancel()
    connection.reply_received(RedisRefusal("ERR nobody waits for this"))
    connection.reply_received(b"2")
    assert await second == b"2"
    assert connection.unanswered == 0


async def test_a_refusal_is_raised_to_who_asked() -> None:
    connection = RecordedConnection()
    answer = connection.execute(b"ONE")
    connection.reply_received(RedisRefusal("ERR no"))
    with pytest.raises(RedisRefusal, match="ERR no"):
        await answer


async def test_questions_without_an_answer_fail_when_the_connection_ends() -> None:
    connection = RecordedConnection()
    answer = connection.execute(b"ONE")
    connection.connection_lost("it fell")
    with pytest.raises(ConnectionLost, match="it fell"):
        await answer
    assert connection.lost.result() == "it fell"


async def test_a_question_after_the_end_fails_at_once() -> None:
    connection = RecordedConnection()
    connection.connection_lost("it fell")
    with pytest.raises(ConnectionLost, match="it fell"):
        await connection.execute(b"ONE")
    assert connection.sent == []


async def test_the_reason_for_giving_up_is_the_reason_of_the_end() -> None:
    connection = RecordedConnection()
    connection.abort("enough")
    connection.abort("again")
    connection.connection_lost("connection reset")
    assert connection.lost.result() == "enough"
    assert connection.aborted


async def test_an_answer_to_an_unasked_question_ends_the_connection() -> None:
    connection = RecordedConnection()
    connection.reply_received(b"surprise")
    assert connection.aborted


async def test_what_redis_refuses_unasked_is_the_reason_of_the_end() -> None:
    connection = RecordedConnection()
    connection.reply_received(RedisRefusal("ERR max number of clients reached"))
    connection.connection_lost("closed")
    assert connection.lost.result() == "Redis refuses: ERR max number of clients reached"


async def test_a_listening_link_hands_on_everything() -> None:
    connection = RecordedConnection()
    pushes: list[Reply] = []
    connection.receive_pushes(pushes.append, lambda: None)
    for reply in (b"a", [b"b"], None):
        connection.reply_received(reply)
    assert pushes == [b"a", [b"b"], None]


@pytest.mark.parametrize("refusal", ["NOPERM x", "LOADING x", "BUSY x", "MASTERDOWN x"])
async def test_a_redis_that_refuses_ping_for_another_reason_is_alive(refusal: str) -> None:
    connection = RecordedConnection()
    connection.send = lambda *command: connection.reply_received(RedisRefusal(refusal))  # type: ignore[method-assign]
    await connection.check_alive()


@pytest.mark.parametrize("refusal", ["NOAUTH x", "DENIED x", "ERR max number of clients reached"])
async def test_a_redis_that_will_not_have_us_is_not_proved_alive(refusal: str) -> None:
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


async def test_after_a_second_of_silence_redis_is_asked_once() -> None:
    connection = RecordedConnection()
    connection.connection_made()
    take_steps(connection, 1)
    assert connection.sent == []
    take_steps(connection, 4)
    assert connection.sent == [(b"PING",)]
    connection.connection_lost("done")
    await settle()


async def test_after_three_seconds_of_silence_the_connection_is_given_up() -> None:
    connection = RecordedConnection()
    connection.connection_made()
    take_steps(connection, 6)
    assert not connection.aborted
    take_steps(connection, 1)
    assert connection.aborted
    connection.connection_lost("done")
    assert connection.lost.result() == "no byte received for 3 s, not even a reply to PING"


async def test_a_byte_begins_the_count_anew() -> None:
    connection = RecordedConnection()
    connection.connection_made()
    for _ in range(5):
        take_steps(connection, 5)
        connection.bytes_received()
    assert not connection.aborted
    connection.connection_lost("done")


async def test_a_loop_that_was_held_up_takes_one_step_for_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEP_SECONDS", 0.001)
    connection = RecordedConnection()
    connection.connection_made()
    began = connection._loop.time()
    # As long as twenty steps.
    while connection._loop.time() < began + 0.02:
        pass
    await until(lambda: connection._silent_steps > 0)
    assert not connection.aborted
    connection.connection_lost("done")
