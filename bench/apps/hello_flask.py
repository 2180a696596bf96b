"""Hello world in Flask."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return b"Hello, world", {"content-type": "text/plain"}
