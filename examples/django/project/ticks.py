import asyncio


async def ticks(message, channels):
    """A line every half second. A thousand clients that wait for the next one take no thread."""
    # Without nosniff browsers show nothing until there is enough to guess from.
    headers = [[b"content-type", b"text/plain"], [b"x-content-type-options", b"nosniff"]]
    await channels["reply"].send({"status": 200, "headers": headers, "more_content": True})
    for number in range(1, 11):
        await channels["reply"].send({"content": b"tick %d\n" % number, "more_content": number < 10})
        await asyncio.sleep(0.5)
