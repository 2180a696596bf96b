"""Deliveries per second of messages that every client gets, within one process: the chat of the seeds.

README.md says how to read the output.
"""

from __future__ import annotations

from contenders import OURS, uvicorn
from conversation import Conversation
from environments import BENCH, Environment
from results import rate_target
from rounds import Contender, Scenario, run_program

CONTENDERS = (
    Contender("ours", OURS, uvicorn("websocket_channels:chat"), is_peer=False),
    Contender(
        "floor",
        Environment("floor-websocket", "uvloop", ("uvloop", "websockets")),
        ("python", str(BENCH / "floor_fanout.py"), "{port}"),
        is_peer=False,
    ),
    Contender(
        "starlette",
        Environment("public-uvicorn-starlette", "uvicorn", ("uvicorn[standard]", "starlette")),
        uvicorn("chat_starlette:app", "--lifespan", "off", "--ws", "websockets-sansio"),
    ),
)

SCENARIO = Scenario(
    "fanout",
    "32 bytes to all",
    CONTENDERS,
    (rate_target("S7", 500, "floor", 0.85), rate_target("S7", 500, "starlette", 1.5)),
    Conversation("fanout", 32),
    "floor",
    "deliveries",
)

if __name__ == "__main__":
    run_program([SCENARIO], __doc__, [500])
