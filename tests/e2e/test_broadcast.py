"""Groups in servers as users start them, with several processes, a real Redis and real browsers."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.broadcast.redis_servers import RedisServer, running
from tests.e2e.example_site import PASSWORD
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = Path(__file__).parent / "seeds"
CLEAN = {"PYTHONDONTWRITEBYTECODE": "1"}
WARNING = "groups reach the clients of this process only"

#: Set to 100000 to be sure; `make test` has the patience for a few.
CYCLES = int(os.environ.get("UVICORN_TEST_BROADCAST_CYCLES", "500"))

ATTENTIVE = """
import asyncio, gc, json
from uvicorn.broadcast import BroadcastMiddleware

async def attentive(message, channels):
    reply, groups, kind = channels["reply"], channels["groups"], message["channel"]
    if kind == "http.request":
        gc.collect()
        tasks = len(asyncio.all_tasks())
        content = json.dumps(app.metrics | {"tasks": tasks, "objects": len(gc.get_objects())})
        await reply.send({"status": 200, "content": content.encode()})
    elif kind == "websocket.connect":
        await groups.send({"group": "chat", "add": reply.name})
        if message["path"] == "/refused":
            await reply.send({"accept": False})
    elif kind == "websocket.receive":
        await groups.send({"group": "chat", "send": {"text": message["text"]}})
    elif kind == "groups.gap":
        await reply.send({"text": "gap: " + message["reason"]})

app = BroadcastMiddleware(attentive)
"""


INVITING = """
from uvicorn.broadcast import BroadcastMiddleware

async def inviting(message, channels):
    reply, groups = channels["reply"], channels["groups"]
    if message["channel"] == "websocket.connect":
        await reply.send({"text": reply.name})
    elif message["channel"] == "websocket.receive":
        command, _, value = message["text"].partition(" ")
        await groups.send({"group": "guests", command: {"text": value} if command == "send" else value})
        await reply.send({"text": "done"})

app = BroadcastMiddleware(inviting)
"""


STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from uvicorn.broadcast import BroadcastMiddleware

async def page(request):
    await request.scope["groups"].send({"group": "chat", "send": {"text": "from a page"}})
    return PlainTextResponse("sent")

async def chat(websocket):
    await websocket.accept()
    groups = websocket.scope["groups"]
    await groups.send({"group": "chat", "add": groups.name})
    async for text in websocket.iter_text():
        await groups.send({"group": "chat", "send": {"text": text}})

app = BroadcastMiddleware(Starlette(routes=[Route("/", page), WebSocketRoute("/chat", chat)]))
"""


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(RedisServer(tmp_path)) as server:
        yield server


@pytest.fixture(params=["earlier", "later"])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with the files of one of the documents."""
    folder = tmp_path / "chat"
    folder.mkdir()
    shutil.copy(SEEDS / "broadcast" / f"{request.param}.py", folder / "app.py")
    shutil.copy(SEEDS / "explicit_accept" / "index.html", folder)
    return folder


@pytest.fixture
def attentive(tmp_path: Path) -> Path:
    """Return a folder with an application that reports gaps and counts of messages."""
    (tmp_path / "attentive.py").write_text(ATTENTIVE)
    return tmp_path


def talk(server: ServerProcess, path: str = "/") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", open_timeout=LONGEST_WAIT, close_timeout=LONGEST_WAIT)


def hear(client: ClientConnection, count: int) -> list[str]:
    return [str(client.recv(LONGEST_WAIT)) for _ in range(count)]


def wait_until_connected(server: ServerProcess) -> None:
    """Wait until both Redis connections of the process are open: for messages in, and for messages out."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not json.loads(server.get()[1])["connected"]:
        assert time.monotonic() < deadline, server.stderr


def carried_by(redis: RedisServer) -> dict[str, str]:
    return {"UVICORN_BROADCAST_URL": redis.url} | CLEAN


def test_chat_of_the_documentation_works_in_three_processes(document: Path, redis_server: RedisServer) -> None:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_server(document, "app:chat_server", env=carried_by(redis_server)))
            for _ in range(3)
        ]
        clients = [stack.enter_context(talk(server)) for server in servers]
        for number, client in enumerate(clients):
            client.send(f"from {number}")
            assert [hear(other, 1) for other in clients] == [[f"from {number}"]] * 3
        assert servers[0].get()[1] == (document / "index.html").read_text()
        for client in clients:
            client.close()
        for server in servers:
            assert server.stop() == 0
            assert not any(word in server.stderr for word in ("WARNING", "ERROR", "Traceback", "ResourceWarning"))


def test_chat_works_in_two_browser_windows_on_two_processes(browser: Browser, redis_server: RedisServer) -> None:
    example = EXAMPLES / "broadcast"
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_server(example, "app:chat_server", env=carried_by(redis_server)))
            for _ in range(2)
        ]
        pages = [window(browser, server) for server in servers]
        for number, page in enumerate(pages):
            page.fill("#messageText", f"from {number}")
            page.click("button")
            expect(pages[1 - number].locator("#messages li").last).to_have_text(
                f"from {number}", timeout=LONGEST_WAIT * 1000
            )
        for page in pages:
            expect(page.locator("#messages li")).to_have_text(["from 0", "from 1"], timeout=LONGEST_WAIT * 1000)
            page.close()


def window(browser: Browser, server: ServerProcess, path: str = "/") -> Page:
    """Open the page in a new window, and wait for its WebSocket."""
    page = browser.new_page()
    page.set_default_timeout(LONGEST_WAIT * 1000)
    page.goto(f"http://127.0.0.1:{server.port}{path}")
    page.wait_for_function("typeof ws !== 'undefined' && ws.readyState == WebSocket.OPEN")
    return page


def skip_if_there_is_a_redis() -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)) == 0:
            pytest.skip("somebody has a Redis on port 6379")


def test_single_process_without_redis_uses_the_memory_backend_and_warns_once(document: Path) -> None:
    skip_if_there_is_a_redis()
    with running_server(document, "app:chat_server") as server:
        with talk(server) as first, talk(server) as second:
            first.send("hello")
            assert hear(first, 1) == hear(second, 1) == ["hello"]
        assert server.stop() == 0
        assert [WARNING in line for line in server.stderr.splitlines() if "WARNING" in line] == [True]


@pytest.mark.parametrize("asgi_worker", [False, True], ids=["ours", "gunicorn's"])
def test_starlette_site_broadcasts_on_our_server_and_on_gunicorn(
    asgi_worker: bool, tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "site_app.py").write_text(STARLETTE)
    program = ("-m", "gunicorn") if asgi_worker else ("-m", "uvicorn")
    options = ("-k", "asgi", "--no-control-socket") if asgi_worker else ()
    with running_server(
        tmp_path, "site_app:app", *options, env=carried_by(redis_server), program=program, addresses=0
    ) as server:
        server.wait_for_line("Listening at" if asgi_worker else "running on")
        port = int(re.findall(r"://127\.0\.0\.1:(\d+)", server.stderr)[0])
        with connect(f"ws://127.0.0.1:{port}/chat", open_timeout=LONGEST_WAIT) as client:
            client.send("hello")
            assert hear(client, 1) == ["hello"]
            assert server.get(port=port) == (200, "sent")
            assert hear(client, 1) == ["from a page"]


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (("-m", "uvicorn"), ("--workers", "2")),
        (("-m", "gunicorn"), ("-w", "2", "-k", "uvicorn.workers.UvicornWorker", "--no-control-socket")),
    ],
    ids=["uvicorn", "gunicorn"],
)
def test_server_with_two_workers_never_uses_the_memory_backend(
    program: tuple[str, ...], options: tuple[str, ...]
) -> None:
    skip_if_there_is_a_redis()
    folder = EXAMPLES / "broadcast"
    with running_server(folder, "app:chat_server", *options, program=program, addresses=0, env=CLEAN) as server:
        server.wait_for_line("a server with several processes needs Redis for groups", count=2)
        assert WARNING not in server.stderr


def test_B12_process_adds_and_discards_a_member_of_a_second_process(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "inviting.py").write_text(INVITING)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running_server(tmp_path, "inviting:app", env=carried_by(redis_server)))
            for _ in range(2)
        )
        guest, host = stack.enter_context(talk(first)), stack.enter_context(talk(second))
        (name,), _ = hear(guest, 1), hear(host, 1)
        host.send(f"add {name}")
        assert hear(host, 1) == ["done"]
        host.send("send welcome")
        assert hear(guest, 1) == ["welcome"]
        host.send(f"discard {name}")
        host.send("send nobody hears this")
        host.send(f"add {name}")
        assert hear(host, 4) == ["done"] * 4
        host.send("send and again")
        assert hear(guest, 1) == ["and again"]


def test_redis_restart_reports_one_gap_to_each_member(attentive: Path, redis_server: RedisServer) -> None:
    with running_server(attentive, "attentive:app", env=carried_by(redis_server)) as server:
        with talk(server) as first, talk(server) as second:
            first.send("before")
            assert hear(first, 1) == hear(second, 1) == ["before"]
            redis_server.kill()
            assert server.get()[0] == 200
            with talk(server) as third:
                redis_server.start()
                assert hear(first, 1) == hear(second, 1) == hear(third, 1) == ["gap: reconnect"]
                wait_until_connected(server)
                third.send("after")
                assert hear(first, 1) == hear(second, 1) == hear(third, 1) == ["after"]
        assert server.stop() == 0
        assert "Traceback" not in server.stderr


def test_member_that_joins_while_redis_is_down_gets_a_gap(attentive: Path, tmp_path: Path) -> None:
    redis_server = RedisServer(tmp_path)
    redis_server.start()
    redis_server.kill()
    with running_server(attentive, "attentive:app", env=carried_by(redis_server)) as server, talk(server) as client:
        redis_server.start()
        try:
            assert hear(client, 1) == ["gap: reconnect"]
            wait_until_connected(server)
            client.send("hello")
            assert hear(client, 1) == ["hello"]
            client.close()
            assert server.stop() == 0
        finally:
            redis_server.kill()


def test_B8_disconnected_clients_leave_no_members_behind(attentive: Path, redis_server: RedisServer) -> None:
    with running_server(attentive, "attentive:app", "--no-access-log", env=carried_by(redis_server)) as server:

        def cycle(number: int) -> None:
            if number % 3 == 0:
                with pytest.raises(InvalidStatus), talk(server, "/refused"):
                    pass
                return
            with talk(server) as client:
                if number % 3 == 1:
                    # Gone without a word.
                    client.socket.shutdown(socket.SHUT_RDWR)

        def left(most_tasks: float = math.inf) -> dict[str, int]:
            """Return what is left when all clients have left their groups, and their tasks have ended."""
            deadline = time.monotonic() + LONGEST_WAIT
            while True:
                counted: dict[str, int] = json.loads(server.get()[1])
                if not counted["members"] and counted["tasks"] <= most_tasks:
                    return counted
                assert time.monotonic() < deadline, counted

        for number in range(50):
            cycle(number)
        before = left()
        for number in range(CYCLES):
            cycle(number)
        after = left(before["tasks"])
        assert after["groups"] == 0
        assert after["objects"] - before["objects"] < 200
        with talk(server) as client:
            client.send("still here")
            assert hear(client, 1) == ["still here"]
        left()
        heard = redis_server.ask("PUBSUB", "CHANNELS")
        assert [channel for channel in heard if not channel.startswith(b"uvicorn.process.")] == []
        assert connections(redis_server) == {"pubsub": 1, "normal": 1}


def test_a_stopping_server_closes_its_redis_connections(attentive: Path, redis_server: RedisServer) -> None:
    with running_server(attentive, "attentive:app", env=carried_by(redis_server)) as server:
        with talk(server):
            assert connections(redis_server) == {"pubsub": 1, "normal": 1}
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        assert not any(word in server.stderr for word in ("never retrieved", "was destroyed", "ResourceWarning"))
    assert connections(redis_server) == {"pubsub": 0, "normal": 0}


def connections(redis: RedisServer) -> dict[str, int]:
    """Return the number of objects of each kind, without those of the request that asks."""
    listed = {kind: redis.ask("CLIENT", "LIST", "TYPE", kind) for kind in ("pubsub", "normal")}
    return {kind: listed[kind].count(b" addr=") - listed[kind].count(b"cmd=client|list") for kind in listed}


@pytest.fixture
def django_data(tmp_path: Path) -> dict[str, str]:
    """Return a separate database with the user `admin`."""
    variables = {
        "EXAMPLE_DATA": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    for command in (["migrate"], ["createsuperuser", "--noinput", "--username", "admin", "--email", "a@example.com"]):
        done = run_command(EXAMPLES / "django", *command, env=variables, program=("manage.py",))
        assert done.returncode == 0, done.stderr
    return variables


@contextmanager
def members_page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """Log in, and open the front page; its WebSocket is open."""
    with browser.new_context(base_url=f"http://127.0.0.1:{server.port}") as context:
        context.set_default_timeout(LONGEST_WAIT * 1000)
        page = context.new_page()
        page.goto("/admin/login/?next=/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", PASSWORD)
        before = server.stdout.count("/live")
        page.click("[type=submit]")
        server.wait_for_line("/live", "stdout", before + 1)
        yield page


def test_django_example_command_publishes_to_an_open_page(
    browser: Browser, redis_server: RedisServer, django_data: dict[str, str]
) -> None:
    variables = django_data | carried_by(redis_server)
    with running_server(EXAMPLES / "django", "project.asgi:app", env=variables) as server:
        with members_page(browser, server) as page:
            done = run_command(EXAMPLES / "django", "announce", "Lunch is ready", env=variables, program=("manage.py",))
            assert done.returncode == 0, done.stderr
            expect(page.locator("#news")).to_have_text("Lunch is ready\n", timeout=LONGEST_WAIT * 1000)


def test_django_example_view_publishes_to_the_pages_of_all_members(
    browser: Browser, redis_server: RedisServer, django_data: dict[str, str]
) -> None:
    variables = django_data | carried_by(redis_server)
    with running_server(EXAMPLES / "django", "project.asgi:app", env=variables) as server:
        with members_page(browser, server) as looking, members_page(browser, server) as writing:
            writing.fill("[name=name]", "Ada")
            writing.fill("[name=text]", "hello")
            writing.click("button")
            expect(looking.locator("#news")).to_have_text("Ada: hello\n", timeout=LONGEST_WAIT * 1000)
