"""Hello world in a Router of 16 entries and a default, at the deepest entry."""

from typing import Any

from uvicorn import Mount, Route, Router


async def hello(message: Any, channels: Any) -> None:
    response = {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    await channels["reply"].send(response)


async def other(message: Any, channels: Any) -> None:
    """An application that is never called."""


routed = Router(
    *(Route(f"/pages/{number}/*", other) for number in range(10)),
    *(Route(f"/pages/{number}", other) for number in range(3)),
    Route("/shop/*", other),
    Mount("/shop/old", other),
    Route("/shop/old/cart/*", hello),
    default=other,
)
