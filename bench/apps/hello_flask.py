"""Hello world in Flask."""

from typing import Any

from flask import Flask

app = Flask(__name__)


@app.get("/articles")
@app.get("/articles/<int:number>")
def hello(number: int = 0) -> Any:
    return b"Hello, world", {"content-type": "text/plain"}
