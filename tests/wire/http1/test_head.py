"""The fast path for usual heads gives the same results as the general path."""

from __future__ import annotations

import random
import re

import pytest

from tests.corpus import request
from tests.wire.http1.test_splits import NARROW, SHORT, disturbed, outcome
from uvicorn.settings import Limits
from uvicorn.wire.http1 import head


@pytest.mark.parametrize("limits", [Limits(), NARROW], ids=["usual limits", "narrow limits"])
def test_fast_path_for_usual_heads_gives_the_same_result_as_the_general_path(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_host_field_is_found_in_upper_and_lower_case(line: bytes) -> None:
    calls, refusal, _ = outcome(request(b"GET / HTTP/1.1", line, host=None), (), Limits())
    assert (calls[0][3], refusal) == ([[b"host", b"a"]], None)


def test_two_host_fields_in_different_case_are_rejected() -> None:
    stream = request(b"GET / HTTP/1.1", b"Host: a", b"HOST: b", host=None)
    assert outcome(stream, (), Limits())[1] == (400, "repeated header field that may occur only once")


def test_cache_of_parsed_header_names_is_bounded() -> None:
    for number in range(2000):
        outcome(request(b"GET / HTTP/1.1", b"x-%d: 1" % number), (), Limits())
    assert len(head._SHAPES) <= 512


def test_very_long_header_names_are_not_cached() -> None:
    name = b"x" * 2000
    outcome(request(b"GET / HTTP/1.1", name + b": 1"), (), Limits())
    assert not any(name in spellings for spellings in head._SHAPES)


def test_names_of_a_head_with_100_fields_are_not_cached() -> None:
    outcome(request(b"GET / HTTP/1.1", *(b"x%d: 1" % number for number in range(100))), (), Limits())
    assert not any(b"x99" in spellings for spellings in head._SHAPES)
