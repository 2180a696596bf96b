"""Requests per second of a FastAPI endpoint that returns a small JSON object: ours against its peers.

The framework takes most of the time; what is left is what a server can do about it. README.md says how to read the
output.
"""

from __future__ import annotations

from contenders import granian, public_uvicorn, uvicorn
from environments import Environment
from results import rate_target
from rounds import Contender, both_loads, run_program
from servers import Question

_APP = "fastapi_json:app"
_ANSWER = b'{"id":7,"name":"hammer","tags":["steel","wood"],"price":12.5}'

_PUBLIC = Environment("public-uvicorn-fastapi", "uvicorn", ("uvicorn[standard]", "zttp", "fastapi"))

CONTENDERS = (
    Contender(
        "ours",
        Environment("ours-fastapi", "uvicorn", ("fastapi",), from_checkout=True),
        uvicorn(_APP, "--lifespan", "off"),
        is_peer=False,
    ),
    Contender(
        "granian-asgi",
        Environment("granian-fastapi", "granian", ("granian[uvloop]", "fastapi")),
        granian("asginl", _APP),
    ),
    Contender("public-uvicorn", _PUBLIC, public_uvicorn(_APP)),
    Contender("public-zttp", _PUBLIC, public_uvicorn(_APP, "zttp")),
)

TARGETS = (
    rate_target("S10", 64, "public-uvicorn", 1.25),
    rate_target("S10", 64, "granian-asgi", 1.1),
)

QUESTION = Question("/item", _ANSWER, content_type="application/json")
SCENARIOS = both_loads("fastapi", "FastAPI, JSON", CONTENDERS, TARGETS, question=QUESTION)

if __name__ == "__main__":
    run_program(SCENARIOS, __doc__, [64])
