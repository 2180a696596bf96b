"""Functions that add numbers to this process's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

#: By name of the part: a function that returns counters, which never decrease, and gauges.
sources: Final[dict[str, Callable[[], tuple[Mapping[str, float], Mapping[str, float]]]]] = {}
