"""WebSockets of channels applications: an echo, and the seeds' chat."""

clients = set()


async def echo(message, channels):
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"], "bytes": message["bytes"]})


async def chat(message, channels):
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
        clients.add(channels["reply"])
    elif message["channel"] == "websocket.receive":
        for client in clients:
            await client.send({"text": message["text"]})
    elif message["channel"] == "websocket.disconnect":
        clients.remove(channels["reply"])
