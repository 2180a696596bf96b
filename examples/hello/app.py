"""The smallest application: `uvicorn app:hello_world` in this folder. Its types are optional."""

from uvicorn.types import Channels, Message


async def hello_world(message: Message, channels: Channels) -> None:
    content = b'Hello, world'
    response = {
        'status': 200,
        'headers': [
            [b'content-type', b'text/plain'],
        ],
        'content': content
    }
    await channels['reply'].send(response)
