# The WebSocket examples of the interface's latest document, as typed: every connection is accepted in so many words.
async def echo(message, channels):
    if message['channel'] == 'websocket.connect':
        await channels['reply'].send({'accept': True})
    elif message['channel'] == 'websocket.receive':
        text = message['text']
        await channels['reply'].send({
            'text': text
        })


import datetime
import asyncio


async def tick(message, channels):
    if message['channel'] == 'websocket.connect':
        await channels['reply'].send({'accept': True})
        while True:
            text = datetime.datetime.now().strftime('%Y-%m-%d %H:%M:%S')
            await channels['reply'].send({'text': text})
            await asyncio.sleep(1)


clients = set()
with open('index.html', 'rb') as file:
    homepage = file.read()

async def chat_server(message, channels):
    """
    ASGI-style 'Hello, world' application.
    """
    if message['channel'] == 'websocket.connect':
        await channels['reply'].send({'accept': True})
        clients.add(channels['reply'])

    elif message['channel'] == 'websocket.receive':
        for client in clients:
            await client.send({'text': message['text']})

    elif message['channel'] == 'websocket.disconnect':
        clients.remove(channels['reply'])

    elif message['channel'] == 'http.request':
        await channels['reply'].send({
            'status': 200,
            'headers': [
                [b'content-type', b'text/html'],
            ],
            'content': homepage
        })
