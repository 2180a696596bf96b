"""The weight of a Shift: which keys are new, and the function that returns it (rules M42, M43)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from uvicorn.routing.weight import WeightFunction, is_new

VISITORS = [f"visitor-{number}" for number in range(10_000)]


@pytest.mark.parametrize("weight", [0, 0.5, 1, 5, 25, 50, 100])
def test_M42_share_of_moved_visitors_is_close_to_the_weight(weight: float) -> None:
    share = sum(is_new(weight, "/search/*", visitor) for visitor in VISITORS) / 100
    assert abs(share - weight) <= 1.5


def test_M42_higher_weight_moves_no_visitor_back_to_the_old_application() -> None:
    weights = [0, 1, 5, 25, 50, 99.9, 100]
    chosen = [{visitor for visitor in VISITORS if is_new(weight, "/search/*", visitor)} for weight in weights]
    assert all(lower <= higher for lower, higher in zip(chosen, chosen[1:], strict=False))


def test_M42_every_process_selects_the_same_application_for_a_key() -> None:
    code = (
        "from uvicorn.routing.weight import is_new; "
        "print(*(int(is_new(25, '/search/*', f'visitor-{number}')) for number in range(10_000)), sep='')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "".join(str(int(is_new(25, "/search/*", visitor))) for visitor in VISITORS)


PINNED = 52.65037002557609


def test_M42_every_release_selects_the_same_application_for_a_key() -> None:
    # blake2b(b"/search/*\0visitor-1"), the first 8 bytes as a fraction of 2**64.
    assert [is_new(weight, "/search/*", "visitor-1") for weight in (PINNED - 0.01, PINNED + 0.01)] == [False, True]


class Weight:
    """A weight function, and a clock that the test sets."""

    def __init__(self, *results: Any) -> None:
        self.seconds = 1000.0
        self.calls = 0
        self._results = results
        self.kept = WeightFunction(self, True, "Shift", lambda: self.seconds)

    def __call__(self) -> Any:
        result = self._results[min(self.calls, len(self._results) - 1)]
        self.calls += 1
        if isinstance(result, BaseException):
            raise result
        return result


def test_M43_weight_is_0_before_the_first_call_of_the_weight_function() -> None:
    weight = Weight(5)
    before = weight.kept.weight
    weight.kept.refresh()
    assert (before, weight.kept.weight) == (0, 5)


def test_M43_the_weight_function_is_called_at_most_once_a_second() -> None:
    weight = Weight(5)
    calls = []
    for seconds in (0, 0.5, 0.4, 0.1, 0.9):
        weight.seconds += seconds
        weight.kept.refresh()
        calls.append(weight.calls)
    assert calls == [1, 1, 1, 2, 2]


def test_M43_the_weight_function_is_not_called_again_while_it_runs() -> None:
    calls = []

    def reenter() -> float:
        calls.append(kept.weight)
        kept.refresh()
        return 5

    seconds = iter(range(100, 200, 10))
    kept = WeightFunction(reenter, True, "Shift", lambda: next(seconds))
    kept.refresh()
    assert calls == [0]


@pytest.mark.parametrize("wrong", [OSError("no database"), SystemExit(1), 101, "5", None, float("nan")])
def test_M43_shift_keeps_its_weight_when_the_weight_function_fails(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    weight = Weight(5, wrong)
    warnings = []
    for _ in range(62):
        weight.kept.refresh()
        weight.seconds += 1
        warnings.append(len(caplog.records))
    assert (weight.kept.weight, warnings[0], warnings[1], warnings[60], warnings[61]) == (5, 0, 1, 1, 2)


def test_M43_weight_function_of_a_shift_without_a_key_may_return_only_0_or_100(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = iter([100, 50, 0])
    seconds = iter(range(100, 200, 10))
    kept = WeightFunction(lambda: next(results), False, "Shift", lambda: next(seconds))
    weights = []
    for _ in range(3):
        kept.refresh()
        weights.append(kept.weight)
    assert weights == [100, 100, 0]
