# The examples of the first README, as typed but for the `def` that it forgot.
import asyncio


def hello_world(message):
    content = b'<html><h1>Hello, world</h1></html>'
    response = {
        'status': 200,
        'headers': [
            [b'content-type', b'text/html'],
        ],
        'content': content
    }
    message['reply_channel'].send(response)


async def hello_world_after_a_second(message):
    await asyncio.sleep(1)
    content = b'<html><h1>Hello, world</h1></html>'
    response = {
        'status': 200,
        'headers': [
            [b'content-type', b'text/html'],
        ],
        'content': content
    }
    message['reply_channel'].send(response)


# "Streaming responses are supported, using "Response Chunk" ASGI messages."
def stream_response(message):
    message['reply_channel'].send({
        'status': 200,
        'headers': [
            [b'content-type', b'text/plain'],
        ],
        'more_content': True
    })
    for chunk in [b'Hello', b', ', b'world']:
        message['reply_channel'].send({
            'content': chunk,
            'more_content': True
        })
    message['reply_channel'].send({})
