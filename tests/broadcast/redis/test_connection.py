"""The order of a conversation with Redis, and how silence is noticed."""

from __future__ import annotations

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.redis import connection as module
from uvicorn.broadcast.redis.connection import Link, LinkLost
from uvicorn.broadcast.redis.resp import RedisRefusal, Reply


class RecordedLink(Link):
    """A connection to nobody: the test speaks for Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, ...]] = []
        self.aborted = False

    def send(self, *command: bytes) -> None:
        self.sent.append(command)

    def abort(self) -> None:
        self.aborted = True


async def test_closing_a_link_whose_driver_does_not_see_its_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.001)
    link = RecordedLink()
    await link.close("enough")
    assert link.aborted


async def test_answers_come_in_the_order_of_the_questions() -> None:
    link = RecordedLink()
    first, second = link.ask(b"ONE"), link.ask(b"TWO")
    link.received(b"1")
    link.received(b"2")
    assert (await first, await second) == (b"1", b"2")


async def test_the_answer_to_a_question_that_was_cancelled_is_not_given_to_the_next() -> None:
    link = RecordedLink()
    first, second = link.ask(b"ONE"), link.ask(b"TWO")
    first.cancel()
    link.received(RedisRefusal("ERR nobody waits for this"))
    link.received(b"2")
    assert await second == b"2"
    assert link.unanswered == 0


async def test_a_refusal_is_raised_to_who_asked() -> None:
    link = RecordedLink()
    answer = link.ask(b"ONE")
    link.received(RedisRefusal("ERR no"))
    with pytest.raises(RedisRefusal, match="ERR no"):
        await answer


async def test_questions_without_an_answer_fail_when_the_connection_ends() -> None:
    link = RecordedLink()
    answer = link.ask(b"ONE")
    link.ended("it fell")
    with pytest.raises(LinkLost, match="it fell"):
        await answer
    assert link.lost.result() == "it fell"


async def test_a_question_after_the_end_fails_at_once() -> None:
    link = RecordedLink()
    link.ended("it fell")
    with pytest.raises(LinkLost, match="it fell"):
        await link.ask(b"ONE")
    assert link.sent == []


async def test_the_reason_for_giving_up_is_the_reason_of_the_end() -> None:
    link = RecordedLink()
    link.give_up("enough")
    link.give_up("again")
    link.ended("connection reset")
    assert link.lost.result() == "enough"
    assert link.aborted


async def test_an_answer_to_an_unasked_question_ends_the_connection() -> None:
    link = RecordedLink()
    link.received(b"surprise")
    assert link.aborted


async def test_what_redis_refuses_unasked_is_the_reason_of_the_end() -> None:
    link = RecordedLink()
    link.received(RedisRefusal("ERR max number of clients reached"))
    link.ended("closed")
    assert link.lost.result() == "Redis refuses: ERR max number of clients reached"


async def test_a_listening_link_hands_on_everything() -> None:
    link = RecordedLink()
    pushes: list[Reply] = []
    link.listen(pushes.append, lambda: None)
    for reply in (b"a", [b"b"], None):
        link.received(reply)
    assert pushes == [b"a", [b"b"], None]


@pytest.mark.parametrize("refusal", ["NOPERM x", "LOADING x", "BUSY x", "MASTERDOWN x"])
async def test_a_redis_that_refuses_ping_for_another_reason_is_alive(refusal: str) -> None:
    link = RecordedLink()
    link.send = lambda *command: link.received(RedisRefusal(refusal))  # type: ignore[method-assign]
    await link.prove_alive()


@pytest.mark.parametrize("refusal", ["NOAUTH x", "DENIED x", "ERR max number of clients reached"])
async def test_a_redis_that_will_not_have_us_is_not_proved_alive(refusal: str) -> None:
    link = RecordedLink()
    link.send = lambda *command: link.received(RedisRefusal(refusal))  # type: ignore[method-assign]
    with pytest.raises(RedisRefusal):
        await link.prove_alive()


# Silence is counted in steps of half a second; here they are taken by hand.


def take_steps(link: Link, count: int) -> None:
    for _ in range(count):
        assert link._step is not None
        link._step.cancel()
        link._take_step()


async def test_after_a_second_of_silence_redis_is_asked_once() -> None:
    link = RecordedLink()
    link.made()
    take_steps(link, 1)
    assert link.sent == []
    take_steps(link, 4)
    assert link.sent == [(b"PING",)]
    link.ended("done")
    await settle()


async def test_after_three_seconds_of_silence_the_connection_is_given_up() -> None:
    link = RecordedLink()
    link.made()
    take_steps(link, 6)
    assert not link.aborted
    take_steps(link, 1)
    assert link.aborted
    link.ended("done")
    assert link.lost.result() == "nothing was heard for 3 s, not even the answer to PING"


async def test_a_byte_begins_the_count_anew() -> None:
    link = RecordedLink()
    link.made()
    for _ in range(5):
        take_steps(link, 5)
        link.heard()
    assert not link.aborted
    link.ended("done")


async def test_a_loop_that_was_held_up_takes_one_step_for_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEP_SECONDS", 0.001)
    link = RecordedLink()
    link.made()
    began = link._loop.time()
    # As long as twenty steps.
    while link._loop.time() < began + 0.02:
        pass
    await until(lambda: link._silent_steps > 0)
    assert not link.aborted
    link.ended("done")
