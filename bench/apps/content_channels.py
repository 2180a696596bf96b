"""Much content, over channels: / answers the length of a POST, /whole and /stream have 10 MiB."""

from typing import Any

PIECE = b"x" * 65536
WHOLE = PIECE * 160


async def app(message: Any, channels: Any) -> None:
    path = message["path"]
    reply = channels["reply"]
    if path == "/whole":
        await reply.send(response(len(WHOLE), WHOLE, False))
    elif path == "/stream":
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
