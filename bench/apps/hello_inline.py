"""The floor of WSGI: hello world on our server, called on the event loop's thread.

It includes all the work of our WSGI interface, such as environ and checks, except the threads. It is for measuring
only: an application that blocks would delay all clients.
"""

import io
import sys
from typing import Any

import hello_wsgi

from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.environ import build_environ
from uvicorn.interfaces.wsgi_response import encode_response


class Inline(Interface):
    name = "wsgi"

    def serve_http(self, exchange: Any) -> None:
        head: Any = ()

        def start_response(status: Any, headers: Any, exc_info: Any = None) -> None:
            nonlocal head
            head = encode_response(status, headers)

        environ = build_environ(exchange)
        environ["wsgi.input"] = io.BytesIO(exchange.receive_whole() or b"")
        environ["wsgi.errors"] = sys.stderr
        content = b"".join(self.app(environ, start_response))
        status, reason, headers = head
        exchange.respond(status, headers, content, False, reason)


class App:
    def __uvicorn_interface__(self, settings: Any) -> Any:
        return Inline(hello_wsgi.app, settings)


app = App()
