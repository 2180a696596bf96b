"""Hello world for granian's own interface."""


async def app(scope, protocol):
    protocol.response_bytes(200, [("content-type", "text/plain")], b"Hello, world")
