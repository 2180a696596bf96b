"""The chat example in a real browser: two windows, a reload, a closed tab."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "chat"
LOG_CLIENTS = """
import app, logging
logger = logging.getLogger("uvicorn.app")

async def chat_server(message, channels):
    await app.chat_server(message, channels)
    logger.info("clients: %d after %s", len(app.clients), message["channel"])
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "counted.py").write_text(LOG_CLIENTS)
    with running_server(tmp_path, "counted:chat_server") as server:
        yield server


def window(browser: Browser, server: ServerProcess, host: str = "127.0.0.1") -> Page:
    """Open the page in a new window, and wait for its WebSocket."""
    page = browser.new_page()
    page.set_default_timeout(LONGEST_WAIT * 1000)
    page.goto(f"http://{host}:{server.port}/")
    page.wait_for_function("typeof ws !== 'undefined' && ws.readyState == WebSocket.OPEN")
    return page


def say(page: Page, text: str) -> None:
    page.fill("#messageText", text)
    page.click("button")


def assert_messages(page: Page, *texts: str) -> None:
    expect(page.locator("#messages li")).to_have_text(list(texts), timeout=LONGEST_WAIT * 1000)


def test_chat_messages_appear_in_both_browser_windows(browser: Browser, server: ServerProcess) -> None:
    first, second = window(browser, server), window(browser, server, "localhost")
    say(first, "hello")
    say(second, "hello yourself")
    for page in (first, second):
        assert_messages(page, "hello", "hello yourself")
        page.close()


def test_chat_server_notices_a_reloaded_page_and_a_closed_tab(browser: Browser, server: ServerProcess) -> None:
    first, second = window(browser, server), window(browser, server)
    server.wait_for_line("clients: 2 after websocket.connect")
    first.reload()
    first.wait_for_function("ws.readyState == WebSocket.OPEN")
    server.wait_for_line("clients: 1 after websocket.disconnect")
    server.wait_for_line("clients: 2 after websocket.connect", count=2)
    second.close()
    server.wait_for_line("clients: 1 after websocket.disconnect", count=2)
    say(first, "anybody there?")
    assert_messages(first, "anybody there?")
    first.close()


def looks(page: Page) -> list[str]:
    """Return the layout of a page: its body, its links, and its title."""
    style = "getComputedStyle(document.body)"
    return [
        *(str(page.evaluate(f"{style}.{name}")) for name in ("fontFamily", "fontSize", "maxWidth", "color", "margin")),
        *page.locator("nav a").all_inner_texts(),
    ]


def test_chat_page_of_the_showcase_looks_like_the_front_page(browser: Browser) -> None:
    with running_server(EXAMPLES, "showcase:app", env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        pages = [browser.new_page() for _ in range(2)]
        for page in pages:
            page.set_default_timeout(LONGEST_WAIT * 1000)
            page.goto(f"http://127.0.0.1:{server.port}/")
            front = looks(page)
            page.click("nav >> text=A chat")
            page.wait_for_function("typeof ws !== 'undefined' && ws.readyState == WebSocket.OPEN")
            assert looks(page) == front
        say(pages[0], "hello")
        for page in pages:
            assert_messages(page, "hello")
            page.close()


PLAIN_CHAT = """
import app
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.utils import threaded

def chat(message, channels):
    reply, groups = channels["reply"], channels["groups"]
    if message["channel"] == "websocket.connect":
        groups.send({"group": "chat", "add": reply.name})
    elif message["channel"] == "websocket.receive":
        groups.send({"group": "chat", "send": {"text": message["text"]}})
    elif message["channel"] == "http.request":
        reply.send({"status": 200, "headers": [[b"content-type", b"text/html"]], "content": app.homepage})

chat_server = BroadcastMiddleware(threaded(chat), url="memory://")
"""


def test_synchronous_chat_function_works_in_two_browser_windows(browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "plain.py").write_text(PLAIN_CHAT)
    with running_server(tmp_path, "plain:chat_server") as server:
        first, second = window(browser, server), window(browser, server)
        say(first, "hello")
        assert_messages(second, "hello")
        say(second, "hello yourself")
        for page in (first, second):
            assert_messages(page, "hello", "hello yourself")
            page.close()
