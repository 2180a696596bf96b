"""Echoes per second over WebSockets: messages of 32 bytes and of 64 KiB, ours against its peers and against the floor.

README.md says how to read the output.
"""

from __future__ import annotations

from contenders import GRANIAN, OURS, PUBLIC_UVICORN, granian, uvicorn
from conversation import Conversation
from environments import BENCH, Environment
from results import rate_target
from rounds import Contender, Scenario, run_program

CONTENDERS = (
    Contender("ours", OURS, uvicorn("websocket_channels:echo"), is_peer=False),
    Contender(
        "floor",
        Environment("picows", "picows", ("picows", "uvloop")),
        ("python", str(BENCH / "floor_echo.py"), "{port}"),
        is_peer=False,
    ),
    Contender(
        "public-uvicorn",
        PUBLIC_UVICORN,
        uvicorn("websocket_asgi:echo", "--lifespan", "off", "--ws", "websockets-sansio"),
    ),
    Contender("granian-rsgi", GRANIAN, granian("rsgi", "websocket_rsgi:echo")),
    Contender("granian-asgi", GRANIAN, granian("asginl", "websocket_asgi:echo")),
)

SCENARIOS = (
    Scenario(
        "short", "Echo of 32 bytes", CONTENDERS,
        (
            rate_target("S6", 64, "floor", 0.60),
            rate_target("S6", 64, "public-uvicorn", 1.3),
            rate_target("S6", 64, "granian-rsgi", 2),
            rate_target("S6", 64, "granian-asgi", 2),
        ),
        Conversation("echo", 32), "floor", "echoes",
    ),
    Scenario(
        "long", "Echo of 64 KiB", CONTENDERS, (rate_target("S6", 64, "public-uvicorn", 1.0),),
        Conversation("echo", 65536), "floor", "echoes",
    ),
)  # fmt: skip

if __name__ == "__main__":
    run_program(SCENARIOS, __doc__, [64])
