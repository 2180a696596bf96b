"""Requests per second of an async hello world: ours against its peers and against the floor.

Every figure that counts is a ratio taken round by round, between servers that ran within seconds of each other:
rates drift with the machine and the hour, the ratios hardly do. README.md says how to read the output.
"""

from __future__ import annotations

from contenders import GRANIAN, OURS, PUBLIC_UVICORN, granian, gunicorn, public_uvicorn, uvicorn
from environments import BENCH, CHECKOUT, Environment
from results import Results, Target, rate_target
from rounds import Contender, Scenario, both_loads, run_program
from servers import Question

_FLOOR = Contender(
    "floor",
    Environment("floor", "uvloop", ("uvloop", "httptools")),
    ("python", str(BENCH / "floor.py"), "{port}"),
    is_peer=False,
)
_OURS = uvicorn("app:hello_world", "--app-dir", str(CHECKOUT / "examples" / "hello"))
_GRANIAN_ASGI = Contender("granian-asgi", GRANIAN, granian("asginl", "hello_asgi:app"))
_PUBLIC = (
    Contender("public-uvicorn", PUBLIC_UVICORN, public_uvicorn("hello_asgi:app")),
    Contender("public-zttp", PUBLIC_UVICORN, public_uvicorn("hello_asgi:app", "zttp")),
)

CONTENDERS = (
    Contender("ours", OURS, _OURS, is_peer=False),
    _FLOOR,
    Contender("granian-rsgi", GRANIAN, granian("rsgi", "hello_rsgi:app")),
    _GRANIAN_ASGI,
    *_PUBLIC,
    Contender(
        "gunicorn-asgi",
        # Not gunicorn[fast]: where its parser has no wheel of the right age, pip takes an older gunicorn and is silent.
        Environment("gunicorn", "gunicorn", ("gunicorn", "uvloop")),
        gunicorn("asgi", "hello_asgi:app", "--asgi-lifespan", "off"),
    ),
)


def _least_peer_p99(results: Results) -> float | None:
    found = [results.p99(contender.name) for contender in CONTENDERS if contender.is_peer]
    return min((p99 for p99 in found if p99 is not None), default=None)


TARGETS = (
    rate_target("S1v", 64, "granian-asgi", 0.85),
    rate_target("S1v", 64, "public-uvicorn", 1.35),
    rate_target("S1v", 64, "public-zttp", 1.15),
    # RSGI makes no headers unless it is asked for them.
    rate_target("S1v", 64, "granian-rsgi", 1.05, is_aim=True),
    rate_target("S2", 200, "granian-asgi", 0.85),
    Target("S2", 200, "p99 ms, against the best peer", "<=", _least_peer_p99, lambda results: results.p99("ours")),
    Target("S2", 200, "resident MiB", "<=", lambda results: 32.0, lambda results: results.mib("ours")),
)
ONE_HEAD_TARGETS = (
    rate_target("S1", 64, "floor", 0.60),
    rate_target("S1", 64, "public-uvicorn", 2.2),
    rate_target("S1", 64, "granian-rsgi", 1.35),
)

# The same application for all: what ASGI costs beside our own interface.
ASGI_CONTENDERS = (
    Contender("ours", OURS, uvicorn("hello_asgi:app", "--lifespan", "off"), is_peer=False),
    _FLOOR,
    _GRANIAN_ASGI,
    *_PUBLIC,
)
ASGI_TARGETS = (
    rate_target("S1v-asgi", 64, "granian-asgi", 0.75),
    rate_target("S1v-asgi", 64, "public-uvicorn", 1.2),
    rate_target("S1v-asgi", 64, "granian-asgi", 1.0, is_aim=True),
)
ASGI_ONE_HEAD_TARGETS = (
    rate_target("S1b", 64, "floor", 0.50),
    rate_target("S1b", 64, "public-uvicorn", 1.9),
    rate_target("S1b", 64, "granian-asgi", 1.4),
)

# Every head as a proxy hands it on, against the varied load without one. granian takes the proxy for the client.
PROXY = Scenario(
    "proxy",
    "Hello world behind a proxy, varied heads",
    (
        Contender("ours", OURS, _OURS, is_peer=False),
        Contender("no-proxy", OURS, _OURS, is_peer=False, trial=Question()),
        *_PUBLIC,
    ),
    (rate_target("S1p", 64, "no-proxy", 0.95),),
    Question(forwarded=True),
)

# The same application through the deepest of 16 entries, and served directly.
ROUTED = Scenario(
    "routed",
    "Hello world through a Router, varied heads",
    (
        Contender("ours", OURS, uvicorn("hello_routed:routed"), is_peer=False),
        Contender("direct", OURS, uvicorn("hello_routed:hello"), is_peer=False),
    ),
    (rate_target("S1r", 64, "direct", 0.95),),
    Question("/shop/old/cart"),
)

SCENARIOS = (
    *both_loads("hello", "Hello world", CONTENDERS, TARGETS, ONE_HEAD_TARGETS, floor="floor"),
    PROXY,
    ROUTED,
    *both_loads("asgi", "Hello world, ASGI", ASGI_CONTENDERS, ASGI_TARGETS, ASGI_ONE_HEAD_TARGETS, floor="floor"),
)

if __name__ == "__main__":
    run_program(SCENARIOS, __doc__, [64, 200])
