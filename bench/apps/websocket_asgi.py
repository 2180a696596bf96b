"""An echo over ASGI3: what comes goes back, text as text and bytes as bytes."""


async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        data = {"text": text} if text is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **data})
