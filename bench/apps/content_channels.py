"""A channels application that sends 10 MiB below /whole and /stream, and elsewhere the length of a POST."""

from typing import Any

PIECE = b"x" * 65536
WHOLE = PIECE * 160


async def app(message: Any, channels: Any) -> None:
    path = message["path"]
    reply = channels["reply"]
    if path.startswith("/whole"):
        await reply.send(response(len(WHOLE), WHOLE, False))
    elif path.startswith("/stream"):
        await reply.send(response(len(WHOLE), b"", True))
        for number in range(160):
            await reply.send({"content": PIECE, "more_content": number < 159})
    else:
        received = 0
        more = "body" in channels
        while more:
            chunk = await channels["body"].receive()
            received += len(chunk["content"])
            more = chunk["more_content"]
        answer = str(received).encode()
        await reply.send(response(len(answer), answer, False))


def response(length: Any, content: Any, more_content: Any) -> Any:
    headers = [[b"content-type", b"text/plain"], [b"content-length", str(length).encode()]]
    return {"status": 200, "headers": headers, "content": content, "more_content": more_content}
