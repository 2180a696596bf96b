"""An ASGI application that sends 10 MiB below /whole and /stream, and elsewhere the length of a POST."""

from typing import Any

PIECE = b"x" * 65536
WHOLE = PIECE * 160


async def app(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if path.startswith("/whole"):
        await start(send, len(WHOLE))
        await send({"type": "http.response.body", "body": WHOLE})
    elif path.startswith("/stream"):
        await start(send, len(WHOLE))
        for number in range(160):
            await send({"type": "http.response.body", "body": PIECE, "more_body": number < 159})
    else:
        received = 0
        more = True
        while more:
            message = await receive()
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
        answer = str(received).encode()
        await start(send, len(answer))
        await send({"type": "http.response.body", "body": answer})


async def start(send: Any, length: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
