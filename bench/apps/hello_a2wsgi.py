"""Hello world through a2wsgi: the WSGI application for ASGI servers, and the ASGI one for WSGI servers."""

import hello_asgi
import hello_wsgi
from a2wsgi import ASGIMiddleware, WSGIMiddleware

asgi_app = WSGIMiddleware(hello_wsgi.app, workers=8)
wsgi_app = ASGIMiddleware(hello_asgi.app)
