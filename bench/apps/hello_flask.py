"""Hello world in Flask."""

from typing import Any

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> Any:
    return b"Hello, world", {"content-type": "text/plain"}
