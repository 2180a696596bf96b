"""Two Flask applications with one session cookie."""

from flask import Flask

from uvicorn import Mount, Router

shop, forum = Flask("shop"), Flask("forum")
shop.secret_key, forum.secret_key = "one", "two"
application = Router(Mount("/shop", shop), Mount("/forum", forum))
