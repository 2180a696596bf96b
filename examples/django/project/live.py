async def live(message, channels):
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "members", "add": channels["reply"].name})
