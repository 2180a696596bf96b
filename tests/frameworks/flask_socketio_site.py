"""A Flask site with Flask-SocketIO on threads, as its documentation shows it. The site does not know the server."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue
from flask_socketio import SocketIO, disconnect, emit

app = Flask(__name__)
app.config["SECRET_KEY"] = "for this test only"
socketio = SocketIO(
    app,
    async_mode="threading",
    cors_allowed_origins=os.environ.get("CORS") or None,
    ping_interval=float(os.environ.get("PING_INTERVAL", "25")),
)


@app.get("/")
def index() -> ResponseReturnValue:
    return "hello"


@socketio.on("echo")
def echo(data: Any) -> None:
    emit("echo", data)


@socketio.on("shout")
def shout(data: Any) -> None:
    emit("echo", data, broadcast=True)


@socketio.on("leave")
def leave() -> None:
    disconnect()


@socketio.on("disconnect")
def left(reason: str) -> None:
    print("left", reason, getattr(request, "sid", ""), flush=True)  # noqa: T201
