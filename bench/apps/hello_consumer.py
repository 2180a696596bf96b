"""The smallest consumers: one on the event loop, one on a thread."""


async def on_the_loop(message):
    message["reply_channel"].send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    )


def on_a_thread(message):
    message["reply_channel"].send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    )
