"""A Shift in real processes: the sides of visitors (rule M42), and fallbacks of a Flask site (rules M47 and M48)."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

SIDES: Final = """
import os

from uvicorn import Route, Router, Shift, header

def site(environ, start_response):
    start_response("200 OK", [])
    return [f"old {os.getpid()}".encode()]

async def moved(message, channels):
    await channels["reply"].send({"status": 200, "content": f"new {os.getpid()}".encode()})

weight = float(os.environ["WEIGHT"])
app = Router(Route("/search/*", Shift(site, moved, weight=weight, key=header("x-visitor"))), default=site)
"""

VISITORS: Final = [f"visitor-{number}" for number in range(400)]

PAGES: Final = """
from flask import Flask, redirect, request

from uvicorn import Route, Router, Shift, report

site = Flask("site")

@site.route("/pages/<int:number>", methods=["GET", "HEAD", "POST", "DELETE"])
def page(number):
    if number % 7 == 0:
        return redirect(f"/pages/{number + 1}")
    response = site.make_response((f"old page {number}, {request.args.to_dict()} " * number, {"x-number": str(number)}))
    response.set_cookie("seen", str(number))
    response.add_etags()
    return response.make_conditional(request)

async def moved(message, channels):
    number = int(message["path"].rpartition("/")[2])
    status, content = 200, f"new page {number}".encode()
    if number % 2:
        status = 404
    elif number == 198:
        status = 403
    await channels["reply"].send({"status": status, "content": content})

old = Router(default=site)
app = Router(
    Route("/pages/*", Shift(site, moved, weight=100, fallback=(404,))),
    Route("/_status", report(token="0123456789abcdef")),
    default=site,
)
"""


def asked(server: ServerProcess, path: str, *fields: str, method: str = "GET") -> bytes:
    """All bytes of the response to a request on a connection of its own."""
    lines = (f"{method} {path} HTTP/1.1", "host: x", "connection: close", *fields, "", "")
    with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as client:
        client.sendall("\r\n".join(lines).encode())
        data = b""
        while piece := client.recv(65536):
            data += piece
        return data


@contextmanager
def four_workers(folder: Path, weight: float) -> Iterator[ServerProcess]:
    (folder / "sides.py").write_text(SIDES)
    arguments = ("sides:app", "--workers", "4", "--no-access-log")
    with running_server(folder, *arguments, env={"WEIGHT": str(weight)}) as server:
        server.wait_for_line(" is ready", count=4)
        yield server


def sides_of_visitors(server: ServerProcess) -> tuple[dict[str, str], set[str]]:
    """The side of each visitor, and the processes that have answered."""
    answers = [asked(server, "/search/x", f"x-visitor: {visitor}").split()[-2:] for visitor in VISITORS]
    sides = {visitor: side.decode() for visitor, (side, _) in zip(VISITORS, answers, strict=True)}
    return sides, {process.decode() for _, process in answers}


def test_M42_visitor_keeps_its_application_when_four_workers_reload(tmp_path: Path) -> None:
    with four_workers(tmp_path, 25) as server:
        first, processes = sides_of_visitors(server)
        server.send_signal(signal.SIGHUP)
        server.wait_for_line(" is ready", count=8)
        second, successors = sides_of_visitors(server)
    assert len(processes) > 1
    assert successors - processes
    assert first == second
    assert set(first.values()) == {"old", "new"}


def test_M42_visitors_of_the_new_application_stay_when_its_weight_is_raised(tmp_path: Path) -> None:
    found = []
    for weight in (5, 25):
        with four_workers(tmp_path, weight) as server:
            sides, _ = sides_of_visitors(server)
        found.append({visitor for visitor, side in sides.items() if side == "new"})
    assert found[0] < found[1]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """The Flask site alone, and behind a Shift whose new side knows the even pages."""
    (tmp_path / "pages.py").write_text(PAGES)
    options = ("--no-access-log", "--no-date-header")
    with (
        running_server(tmp_path, "pages:old", *options) as alone,
        running_server(tmp_path, "pages:app", *options) as shifted,
    ):
        yield alone, shifted


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_M48_shift_sends_the_same_fallback_pages_as_the_old_site_alone(
    pages: tuple[ServerProcess, ServerProcess], method: str
) -> None:
    alone, shifted = pages
    paths = [f"/pages/{number}?q={number}" for number in range(1, 200, 2)]
    different = [path for path in paths if asked(alone, path, method=method) != asked(shifted, path, method=method)]
    assert (len(paths), different) == (100, [])


def test_M47_new_application_answers_each_of_its_100_pages(pages: tuple[ServerProcess, ServerProcess]) -> None:
    answers = [asked(pages[1], f"/pages/{number}") for number in range(0, 200, 2)]
    assert [answer.rpartition(b"\r\n")[2] for answer in answers] == [b"new page %d" % n for n in range(0, 200, 2)]


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_M47_404_of_the_new_application_for_DELETE_or_POST_reaches_the_client(
    pages: tuple[ServerProcess, ServerProcess], method: str
) -> None:
    answer = asked(pages[1], "/pages/1", method=method)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"new page 1")


def test_M47_client_gets_a_403_of_the_new_application(pages: tuple[ServerProcess, ServerProcess]) -> None:
    answer = asked(pages[1], "/pages/198")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"new page 198")


def test_M50_status_report_lists_each_path_that_fell_back(pages: tuple[ServerProcess, ServerProcess]) -> None:
    for number in (1, 2, 3, 3):
        asked(pages[1], f"/pages/{number}")
    answer = asked(pages[1], "/_status", "authorization: Bearer 0123456789abcdef", "accept: application/json")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["fallbacks"] == [
        {"entry": "/pages/*", "path": "/pages/3", "times": 2},
        {"entry": "/pages/*", "path": "/pages/1", "times": 1},
    ]
