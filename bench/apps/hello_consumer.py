"""The smallest consumers: one on the event loop, one on a thread."""

from typing import Any


async def on_the_loop(message: Any) -> None:
    message["reply_channel"].send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    )


def on_a_thread(message: Any) -> None:
    message["reply_channel"].send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    )
