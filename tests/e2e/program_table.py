"""Programs that run this package in place of the public release, and how to start and use each of them.

`scripts/programs` installs and tries all of them; `test_programs.py` tries those whose packages the tests have anyway.
"""

from __future__ import annotations

import json
from typing import Any, Final

from websockets.sync.client import ClientConnection

from tests.e2e.programs import Program, Visitor
from tests.waits import LONGEST_WAIT


def _expect(found: Any, expected: Any) -> None:
    assert found == expected, f"expected {expected!r:.100}, got {found!r:.300}"


def _expect_text(answer: tuple[int, str], expected: str) -> None:
    assert answer[0] == 200 and expected in answer[1], f"expected 200 and {expected!r:.100}, got {answer!r:.300}"


def _receive_text(websocket: ClientConnection, expected: str) -> None:
    """Receive messages up to the first one that contains `expected`."""
    while expected.encode() not in (message := websocket.recv(LONGEST_WAIT, decode=False)):
        assert message is not None


_FASTAPI: Final = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket


@asynccontextmanager
async def lifespan(app):
    app.state.greeting = "hello"
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/items/{number}")
async def item(number: int, request: Request):
    return {"number": number, "greeting": request.app.state.greeting}


@app.post("/size")
async def size(request: Request):
    return {"size": len(await request.body())}


@app.websocket("/echo")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
"""

_LITESTAR: Final = """
from litestar import Litestar, Request, get, post, websocket_listener


@get("/items/{number:int}", sync_to_thread=False)
def item(number: int) -> dict[str, object]:
    return {"number": number, "greeting": "hello"}


@post("/size", status_code=200)
async def size(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


@websocket_listener("/echo")
async def echo(data: str) -> str:
    return data


app = Litestar([item, size, echo])
"""

_NICEGUI: Final = """
from nicegui import ui

ui.label("written by the page")
ui.run(port={port}, show=False%s)
"""

_MARIMO: Final = """
import marimo

app = marimo.App()


@app.cell
def _():
    6 * 7
    return


if __name__ == "__main__":
    app.run()
"""

_SHINY: Final = """
from shiny import App, render, ui

page = ui.page_fluid(ui.input_slider("number", "A slider", 0, 100, 20), ui.output_text("doubled"))


def server(input, output, session):
    @render.text
    def doubled():
        return f"twice is {int(input.number()) * 2}"


app = App(page, server)
"""

_SOLARA: Final = """
import solara


@solara.component
def Page():
    solara.Text("written by the page")
"""


def _use_api(visitor: Visitor) -> None:
    """Use one of the two applications above."""
    status, content = visitor.get("/items/7")
    _expect((status, json.loads(content)), (200, {"number": 7, "greeting": "hello"}))
    _expect(visitor.get("/items/seven")[0] in (404, 422), True)
    status, content = visitor.post("/size", "x" * 200_000)
    _expect((status, json.loads(content)), (200, {"size": 200_002}))
    websocket = visitor.websocket("/echo")
    for text in ("hello", "grüße " * 20_000):
        websocket.send(text)
        _expect(websocket.recv(LONGEST_WAIT), text)


def _use_datasette(visitor: Visitor) -> None:
    _expect_text(visitor.get("/_memory"), "_memory")
    long = "x" * 20 * 1024
    status, content = visitor.get(f"/_memory.json?sql=select+'{long}'+as+long&_shape=array")
    _expect((status, json.loads(content)), (200, [{"long": long}]))


def _use_mcp(visitor: Visitor) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = visitor.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, **accept)
    _expect_text(answer, '"serverInfo":')


def _use_streamlit(visitor: Visitor) -> None:
    _expect(visitor.get("/_stcore/health"), (200, "ok"))
    _expect_text(visitor.get("/"), "<title>Streamlit</title>")
    websocket = visitor.websocket("/_stcore/stream", "streamlit")
    # A BackMsg whose rerun_script is empty, as protobuf encodes it: run the script and send its elements.
    websocket.send(b"\x5a\x00")
    _receive_text(websocket, "written by the script")


def _use_sphinx(visitor: Visitor) -> None:
    _expect_text(visitor.get("/"), "The first text")
    websocket = visitor.websocket("/websocket-reload")
    (visitor.folder / "source" / "index.rst").write_text("Title\n=====\n\nThe second text\n")
    _expect(websocket.recv(LONGEST_WAIT), "refresh")
    _expect_text(visitor.get("/"), "The second text")


def _use_nicegui(visitor: Visitor) -> None:
    _expect_text(visitor.get("/"), "written by the page")
    websocket = visitor.websocket("/_nicegui_ws/socket.io/?EIO=4&transport=websocket")
    _receive_text(websocket, '"sid"')
    # Socket.IO's CONNECT to the default namespace, and its answer.
    websocket.send("40")
    _receive_text(websocket, "40")


def _use_marimo(visitor: Visitor) -> None:
    _expect_text(visitor.get("/health"), "healthy")
    _expect_text(visitor.get("/"), "<marimo-")
    _receive_text(visitor.websocket("/ws?session_id=s_visitor"), "kernel-ready")


def _use_shiny(visitor: Visitor) -> None:
    _expect_text(visitor.get("/"), "A slider")
    websocket = visitor.websocket("/websocket/")
    _receive_text(websocket, '"sessionId"')
    hello = {"method": "init", "data": {"number": 20, ".clientdata_output_doubled_hidden": False}}
    websocket.send(json.dumps(hello))
    _receive_text(websocket, "twice is 40")


def _use_solara(visitor: Visitor) -> None:
    _expect_text(visitor.get("/"), "solara")
    kernel = "0f3c7a52-8c1c-4c52-9d0e-5f3f5b2f6f1d"
    websocket = visitor.websocket(f"/jupyter/api/kernels/{kernel}/channels?session_id={kernel}")
    header = {"msg_id": "1", "msg_type": "kernel_info_request", "username": "", "session": kernel, "version": "5.2"}
    websocket.send(
        json.dumps(
            {"header": header, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell", "buffers": []}
        )
    )
    _receive_text(websocket, "kernel_info_reply")


def _use_prefect(visitor: Visitor) -> None:
    _expect(visitor.get("/api/health"), (200, "true"))
    status, content = visitor.post("/api/flows/", {"name": "a flow"})
    _expect((status, json.loads(content)["name"]), (201, "a flow"))
    # Accepted with Prefect's own subprotocol.
    websocket = visitor.websocket("/api/events/out", "prefect")
    websocket.send(json.dumps({"type": "auth", "token": ""}))
    _receive_text(websocket, "auth_success")


PROGRAMS: Final = (
    Program(
        "fastapi run",
        ("fastapi[standard]",),
        ("fastapi", "run", "--host", "127.0.0.1", "--port", "{port}", "main.py"),
        _use_api,
        {"main.py": _FASTAPI},
    ),
    Program(
        "fastapi dev",
        ("fastapi[standard]",),
        ("fastapi", "dev", "--port", "{port}", "main.py"),
        _use_api,
        {"main.py": _FASTAPI},
    ),
    Program(
        "gunicorn, uvicorn-worker",
        ("gunicorn", "uvicorn-worker", "fastapi", "websockets"),
        # One worker: gunicorn reports a worker that Ctrl-C finds in its startup, and another may answer before.
        ("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", "1", "-b", "127.0.0.1:{port}", "main:app"),
        _use_api,
        {"main.py": _FASTAPI},
    ),
    Program(
        "litestar run",
        ("litestar[standard]",),
        ("litestar", "--app", "main:app", "run", "--port", "{port}"),
        _use_api,
        {"main.py": _LITESTAR},
    ),
    Program(
        "litestar run --reload",
        ("litestar[standard]",),
        ("litestar", "--app", "main:app", "run", "--reload", "--port", "{port}"),
        _use_api,
        {"main.py": _LITESTAR},
    ),
    Program("datasette", ("datasette",), ("datasette", "serve", "--memory", "--port", "{port}"), _use_datasette),
    Program(
        "gunicorn, datasette",
        ("datasette", "gunicorn"),
        ("gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}", "site_of_data:app"),
        _use_datasette,
        {"site_of_data.py": "from datasette.app import Datasette\n\napp = Datasette(memory=True).app()\n"},
    ),
    Program(
        "mcp",
        ("mcp",),
        ("python", "server.py"),
        _use_mcp,
        {
            "server.py": """
from mcp.server.mcpserver import MCPServer

server = MCPServer("demo")


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


server.run(transport="streamable-http", port={port})
"""
        },
    ),
    Program(
        "sphinx-autobuild",
        ("sphinx-autobuild",),
        ("sphinx-autobuild", "--port", "{port}", "source", "site"),
        _use_sphinx,
        {"source/conf.py": "project = 'demo'\n", "source/index.rst": "Title\n=====\n\nThe first text\n"},
    ),
    Program(
        "streamlit",
        ("streamlit",),
        ("streamlit", "run", "--server.port", "{port}", "--server.headless", "true", "page.py"),
        _use_streamlit,
        {"page.py": "import streamlit\n\nstreamlit.write('written by the script')\n"},
        {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"},
    ),
    Program(
        "nicegui",
        ("nicegui",),
        ("python", "main.py"),
        _use_nicegui,
        {"main.py": _NICEGUI % ""},
    ),
    Program(
        "nicegui, reload=False",
        ("nicegui",),
        ("python", "main.py"),
        _use_nicegui,
        {"main.py": _NICEGUI % ", reload=False"},
    ),
    Program(
        "marimo edit",
        ("marimo",),
        ("marimo", "-y", "edit", "--headless", "--no-token", "--port", "{port}", "notebook.py"),
        _use_marimo,
        {"notebook.py": _MARIMO},
    ),
    Program(
        "marimo run",
        ("marimo",),
        ("marimo", "-y", "run", "--headless", "--no-token", "--port", "{port}", "notebook.py"),
        _use_marimo,
        {"notebook.py": _MARIMO},
    ),
    Program("shiny", ("shiny",), ("shiny", "run", "--port", "{port}", "app.py"), _use_shiny, {"app.py": _SHINY}),
    Program(
        "shiny run --reload",
        ("shiny",),
        ("shiny", "run", "--reload", "--port", "{port}", "app.py"),
        _use_shiny,
        {"app.py": _SHINY},
    ),
    Program(
        "solara",
        ("solara",),
        ("solara", "run", "--no-open", "--port", "{port}", "page.py"),
        _use_solara,
        {"page.py": _SOLARA},
    ),
    Program(
        "solara --production",
        ("solara",),
        ("solara", "run", "--production", "--no-open", "--port", "{port}", "page.py"),
        _use_solara,
        {"page.py": _SOLARA},
    ),
    Program(
        "prefect",
        ("prefect",),
        ("prefect", "server", "start", "--port", "{port}"),
        _use_prefect,
        # Without the address it asks whether to write it there.
        {".prefect/profiles.toml": 'active = "p"\n[profiles.p]\nPREFECT_API_URL = "http://127.0.0.1:{port}/api"\n'},
        environ={"PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
    ),
)
