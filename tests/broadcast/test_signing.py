"""Signatures of control messages. Each signature is valid once, within a minute."""

from __future__ import annotations

import json
from typing import Any

import pytest

from uvicorn.broadcast.signing import Signer, check_secrets
from uvicorn.errors import ConfigError

SECRET = b"a secret of 21 bytes!"
COMMAND = {"_uvicorn_control": "add", "group": "chät", "name": "reply.a.1", "number": 1, "answer": "b"}


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def travelled(message: dict[str, Any]) -> dict[str, Any]:
    """Encode and decode a message, as on its way through Redis."""
    arrived: dict[str, Any] = json.loads(json.dumps(message))
    return arrived


def pair(*secrets: bytes) -> tuple[Signer, Signer, Clock, Clock]:
    one, other = Clock(), Clock()
    return Signer([SECRET], one), Signer(secrets or [SECRET], other), one, other


def test_a_signed_message_is_accepted_once() -> None:
    asking, owning, _, _ = pair()
    message = travelled(asking.sign("owner", "asker", COMMAND))
    assert owning.reject("owner", message) == ""
    assert owning.reject("owner", message) == "it was received before"


def test_signed_message_older_than_an_accepted_message_is_rejected() -> None:
    asking, owning, _, _ = pair()
    first, second = asking.sign("owner", "asker", COMMAND), asking.sign("owner", "asker", COMMAND)
    assert owning.reject("owner", second) == ""
    assert owning.reject("owner", first) == "it was received before"


@pytest.mark.parametrize("key", [*COMMAND, "sender", "sequence", "time"])
def test_signed_message_that_was_changed_is_rejected(key: str) -> None:
    asking, owning, _, _ = pair()
    message = asking.sign("owner", "asker", COMMAND)
    message[key] = message[key] + 1 if isinstance(message[key], (int, float)) else message[key] + "x"
    assert "with another secret" in owning.reject("owner", message)


@pytest.mark.parametrize("key", [*COMMAND, "sender", "sequence", "time", "signature"])
def test_a_signed_message_that_lacks_a_field_is_rejected(key: str) -> None:
    asking, owning, _, _ = pair()
    message = asking.sign("owner", "asker", COMMAND)
    del message[key]
    assert owning.reject("owner", message) != ""


def test_a_signed_message_with_an_extra_field_is_rejected() -> None:
    asking, owning, _, _ = pair()
    assert owning.reject("owner", {**asking.sign("owner", "asker", COMMAND), "asker": "me"}) != ""


def test_a_signed_message_for_another_process_is_rejected() -> None:
    asking, owning, _, _ = pair()
    assert owning.reject("owner", asking.sign("another", "asker", COMMAND)) != ""


def test_message_signed_with_a_different_secret_is_rejected() -> None:
    asking, owning, _, _ = pair()
    stranger = Signer([b"x" * 16], Clock())
    for _ in range(5):
        assert "with another secret" in owning.reject("owner", stranger.sign("owner", "asker", COMMAND))
    assert owning.reject("owner", asking.sign("owner", "asker", COMMAND)) == ""


def test_message_signed_with_the_second_of_two_secrets_is_accepted() -> None:
    asking, owning, _, _ = pair(b"the next one, for now second", SECRET)
    assert owning.reject("owner", asking.sign("owner", "asker", COMMAND)) == ""


@pytest.mark.parametrize(("seconds", "accepted"), [(59, True), (-59, True), (61, False), (-61, False)])
def test_signed_message_may_be_up_to_a_minute_old(seconds: float, accepted: bool) -> None:
    asking, owning, one, _ = pair()
    one.now -= seconds
    reason = owning.reject("owner", asking.sign("owner", "asker", COMMAND))
    assert reason == ("" if accepted else f"it is {seconds} s old; expected 60 s at most: do the clocks differ?")


def test_an_expired_signed_message_is_rejected_after_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.signing._MAX_SENDERS", 1)
    asking, owning, one, other = pair()
    early = asking.sign("owner", "early", COMMAND)
    assert owning.reject("owner", early) == ""
    one.now = other.now = other.now + 100
    for sender in ("b", "c"):
        assert owning.reject("owner", asking.sign("owner", sender, COMMAND)) == ""
    assert "early" not in owning._received
    other.now -= 100
    assert "100 s old" in owning.reject("owner", early)


def test_new_signer_rejects_a_message_that_an_earlier_signer_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past: dict[str, tuple[int, float]] = {}
    monkeypatch.setattr("uvicorn.broadcast.signing._past", past)
    asking, owning, one, other = pair()
    message = asking.sign("owner", "asker", COMMAND)
    assert owning.reject("owner", message) == ""
    owning.close()
    successor = Signer([SECRET], other)
    assert successor.reject("owner", message) == "it was received before"
    assert successor.reject("owner", asking.sign("owner", "asker", COMMAND)) == ""
    other.now += 200
    successor.close()
    assert past == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"time": float("nan")},
        {"time": 10**400},
        {"time": "now"},
        {"sequence": True},
        {"sequence": 1.5},
        {"sender": ["a"]},
        {"signature": "\ud800"},
        {"signature": "ä"},
        {"signature": 1},
        {"extra": float("inf")},
    ],
)
def test_a_message_with_values_that_cannot_be_signed_is_rejected(changes: dict[str, Any]) -> None:
    asking, owning, _, _ = pair()
    assert owning.reject("owner", asking.sign("owner", "asker", COMMAND) | changes) != ""


@pytest.mark.parametrize("sent", [10**400, float("nan"), -(10**400)])
def test_signed_message_with_an_invalid_time_is_not_accepted(sent: float) -> None:
    asking, owning, one, _ = pair()
    one.now = sent
    try:
        message = asking.sign("owner", "asker", COMMAND)
    except (ValueError, OverflowError):
        return
    assert owning.reject("owner", message) != ""


@pytest.mark.parametrize(
    ("given", "secrets"),
    [
        (None, ()),
        ("x" * 16, (b"x" * 16,)),
        (b"x" * 16, (b"x" * 16,)),
        (["x" * 16, b"y" * 20], (b"x" * 16, b"y" * 20)),
    ],
)
def test_the_secret_option_accepts_one_secret_or_several(given: Any, secrets: tuple[bytes, ...]) -> None:
    assert check_secrets(given) == secrets


@pytest.mark.parametrize("given", ["", "x" * 15, [], ["x" * 16, "short"], [1], 17, {"x" * 16}])
def test_the_error_for_an_invalid_secret_does_not_show_the_secret(given: Any) -> None:
    with pytest.raises(ConfigError, match="BroadcastMiddleware: secret: expected") as caught:
        check_secrets(given)
    assert "xxx" not in str(caught.value) and "short" not in str(caught.value)
