"""A Flask site with flask-sock, as its documentation shows it. The site does not know the server."""

from __future__ import annotations

import os
import threading

from flask import Flask, redirect, request
from flask.typing import ResponseReturnValue
from flask_sock import Sock
from simple_websocket import Server

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(os.environ.get("PING_INTERVAL", "25")), "subprotocols": "b"}
sock = Sock(app)


@app.get("/")
def index() -> ResponseReturnValue:
    return "Hello, world"


@app.before_request
def check_login() -> ResponseReturnValue | None:
    """Redirect to a login page, as flask-login does."""
    return redirect("/login") if request.path == "/private" else None


@sock.route("/private")
@sock.route("/echo")
def echo(ws: Server) -> None:
    print("echo began", flush=True)  # noqa: T201
    try:
        while (data := ws.receive()) != "close":
            ws.send(data)
    finally:
        print("echo ended", flush=True)  # noqa: T201


@sock.route("/fail")
def fail(ws: Server) -> None:
    ws.receive()
    raise ValueError("fail")


@sock.route("/stubborn")
def stubborn(ws: Server) -> None:
    """Go on after the connection has ended."""
    ws.send("ready")
    threading.Event().wait()


@sock.route("/busy")
def busy(ws: Server) -> None:
    """Send without end to a client, which may be slow."""
    while True:
        ws.send("x" * 65536)
