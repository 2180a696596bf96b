"""A WebSocket application that leaves the decision about the handshake to the server."""

from uvicorn import Route, Router


async def echo(message, channels):
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})


application = Router(Route("/echo", echo, protocol="websocket"))
