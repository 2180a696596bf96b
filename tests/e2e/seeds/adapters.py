# The adapters' examples of the interface's documents, with something in place of each `...`.
from uvicorn.utils import ASGIAdapter

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'Hello from WSGI']

asgi = ASGIAdapter(app)


from uvicorn.utils import WSGIAdapter

async def app(message, channels):
    await channels['reply'].send({
        'status': 200,
        'headers': [
            [b'content-type', b'text/plain'],
        ],
        'content': b'Hello from channels'
    })

wsgi = WSGIAdapter(app)
