"""A head of the usual form is read by a way of its own, which differs in speed only."""

from __future__ import annotations

import random
import re

import pytest

from tests.corpus import request
from tests.wire.http1.test_splits import NARROW, SHORT, disturbed, outcome
from uvicorn.settings import Limits
from uvicorn.wire.http1 import head


@pytest.mark.parametrize("limits", [Limits(), NARROW], ids=["usual limits", "narrow limits"])
def test_a_usual_head_is_read_like_one_of_any_other_form(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [*SHORT, *(disturbed(random.Random(seed)) for seed in range(5000))]
    # Twice, for the head that repeats the one before.
    usual = [outcome(stream * 2, (len(stream),), limits) for stream in streams]
    monkeypatch.setattr("uvicorn.wire.http1.parser.USUAL_HEAD", re.compile(rb"(?!)"))
    for stream, expected in zip(streams, usual, strict=True):
        assert outcome(stream * 2, (len(stream),), limits) == expected, stream


@pytest.mark.parametrize(
    "line",
    [b"Host: a", b"HOST: a", b"hOsT: a", b"host:a", b"host: a", b"host:  a"],
)
def test_a_host_field_is_found_however_it_is_spelled(line: bytes) -> None:
    calls, refusal, _ = outcome(request(b"GET / HTTP/1.1", line, host=None), (), Limits())
    assert (calls[0][3], refusal) == ([[b"host", b"a"]], None)


def test_two_spellings_of_a_singular_field_are_a_repetition() -> None:
    stream = request(b"GET / HTTP/1.1", b"Host: a", b"HOST: b", host=None)
    assert outcome(stream, (), Limits())[1] == (400, "repeated header field that may occur only once")


def test_shapes_without_end_are_not_all_remembered() -> None:
    for number in range(2000):
        outcome(request(b"GET / HTTP/1.1", b"x-%d: 1" % number), (), Limits())
    assert len(head._SHAPES) <= 512


def test_a_shape_of_long_names_is_not_remembered() -> None:
    name = b"x" * 2000
    outcome(request(b"GET / HTTP/1.1", name + b": 1"), (), Limits())
    assert not any(name in spellings for spellings in head._SHAPES)


def test_a_shape_of_many_short_names_is_not_remembered() -> None:
    outcome(request(b"GET / HTTP/1.1", *(b"x%d: 1" % number for number in range(100))), (), Limits())
    assert not any(b"x99" in spellings for spellings in head._SHAPES)
