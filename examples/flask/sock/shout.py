"""A Flask page with a WebSocket by flask-sock: `uvicorn shout:app` in this folder."""

from flask import Flask, render_template
from flask_sock import Sock
from simple_websocket import Server

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
sock = Sock(app)


@app.get("/")
def index() -> str:
    return render_template("index.html")


@sock.route("/shout")
def shout(ws: Server) -> None:
    while True:
        ws.send(ws.receive().upper())
