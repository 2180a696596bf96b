"""Requests per second with much content, for async and WSGI applications.

POST of 1 MiB; GET of 10 MiB, as a whole and in pieces of 64 KiB. Each server is compared with servers of its kind.
"""

from __future__ import annotations

from contenders import GRANIAN_FLASK, OURS_FLASK, PUBLIC_UVICORN, THREADS, granian, public_uvicorn, uvicorn
from results import Target, best_target, rate_target
from rounds import Contender, Scenario, both_loads, run_program
from servers import Question

_ASYNC = (
    Contender("ours", OURS_FLASK, uvicorn("content_channels:app"), is_peer=False),
    Contender("granian", GRANIAN_FLASK, granian("asginl", "content_asgi:app")),
    Contender("public-uvicorn", PUBLIC_UVICORN, public_uvicorn("content_asgi:app")),
)
_WSGI = (
    Contender("ours", OURS_FLASK, uvicorn("content_wsgi:app", "--threads", THREADS), is_peer=False),
    Contender("granian", GRANIAN_FLASK, granian("wsgi", "content_wsgi:app", "--blocking-threads", THREADS)),
)

_POST = Question(answer=b"1048576", content_bytes=1 << 20)
_WHOLE = Question("/whole", b"x", 10 << 20)
_STREAM = Question("/stream", b"x", 10 << 20)


def _scenarios(
    name: str, title: str, contenders: tuple[Contender, ...], targets: tuple[Target, ...], question: Question
) -> tuple[Scenario, Scenario]:
    return both_loads(name, title, contenders, targets, targets, question)


SCENARIOS = (
    *_scenarios(
        "post-async", "POST of 1 MiB, async", _ASYNC,
        (rate_target("S5", None, "granian", 2.5), rate_target("S5", None, "public-uvicorn", 3)), _POST,
    ),
    *_scenarios("post-wsgi", "POST of 1 MiB, WSGI", _WSGI, (rate_target("S5", None, "granian", 1.0),), _POST),
    *(
        scenario
        for kind, contenders in (("async", _ASYNC), ("WSGI", _WSGI))
        for name, how, question in (("whole", "one message", _WHOLE), ("stream", "pieces of 64 KiB", _STREAM))
        for scenario in _scenarios(
            f"{name}-{kind.lower()}", f"GET of 10 MiB, {how}, {kind}", contenders,
            (best_target("S5", [one.name for one in contenders if one.is_peer], 0.95),), question,
        )
    ),
)  # fmt: skip

if __name__ == "__main__":
    # Fewer than elsewhere: 64 responses of 10 MiB at a time are a memory benchmark.
    run_program(SCENARIOS, __doc__, [16])
