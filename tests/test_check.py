"""`uvicorn module:application --routes` and `--check`: the table, and one line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Some cases are sites of Django and Flask.
import django  # noqa: F401
import pytest
from click.testing import CliRunner

from uvicorn import Route, Router
from uvicorn.check import report
from uvicorn.main import main
from uvicorn.settings import Settings

CASES = Path(__file__).parent / "check_cases"

#: Returns the lines of the command, and its exit code.
Invoke = Callable[..., tuple[list[str], int]]

UNREACHABLE = "no request can reach this entry; remove this entry, or the entries that take its requests"

#: Module and options to what `--check` prints below the table, with exit code 1.
MISTAKES = {
    ("two_kinds",): [
        "cannot import 'two_kinds': module 'two_kinds' has 'application' (wsgi) and 'app' (channels), which are "
        "different applications; choose 'two_kinds:application' or 'two_kinds:app'"
    ],
    ("fails",): ["cannot import 'fails': module 'fails' fails with ValueError: no settings"],
    ("no_application",): [
        "cannot import 'no_application': module 'no_application' fails with InterfaceError: Route('/number'): the "
        "application is not callable: expected an application, got int 42"
    ],
    ("no_kind",): [
        "cannot import 'no_kind': module 'no_kind' fails with InterfaceError: Route('/parts'): cannot detect the "
        "interface of the application: it takes (one, two, three, four); name its kind by interface=...: channels, "
        "consumer, wsgi, asgi3 or asgi2"
    ],
    ("parameters",): [
        "cannot import 'parameters': module 'parameters' fails with ConfigError: Route('/items/{id}'): got '{'; a path "
        "has no parameters; write '/prefix/*', and let the application read the rest"
    ],
    ("equal_entries",): [
        "cannot import 'equal_entries': module 'equal_entries' fails with ConfigError: Router: Route('/page', "
        "methods=('GET', 'HEAD', 'POST')) and Route('/page', methods=('POST', 'PUT')) take the same requests; expected "
        "different paths, hosts, protocols or methods"
    ],
    ("unreachable",): [
        f"Route('/exact/below'): {UNREACHABLE}",
        f"Route('/elsewhere'): {UNREACHABLE}",
        f"Route('/page'): {UNREACHABLE}",
    ],
    ("below_root", "--root-path", "/base", "--root-path-cut", "auto"): [
        "Route('/base/page'): its path begins like the root path '/base', so --root-path-cut auto may misread its "
        "requests; write entries without the root path, or pass --root-path-cut yes or no"
    ],
    ("never_accepts", "--no-ws-implicit-accept"): [
        "Route('/echo', protocol='websocket'): the connect handler never accepts, and a handshake without a decision "
        "is rejected; send {'accept': True}, or leave out --no-ws-implicit-accept"
    ],
    ("no_websockets",): [
        "Route('/live', protocol='websocket'): an application of the kind consumer has no WebSockets and gets "
        "handshakes as GET requests; remove protocol='websocket', or name an application of another kind"
    ],
    ("shifted",): [
        "Route('/wrong', protocol='websocket') new: an application of the kind consumer has no WebSockets and gets "
        "handshakes as GET requests; remove protocol='websocket', or name an application of another kind"
    ],
    ("session_cookies",): [
        "Mount('/shop') and Mount('/forum'): both have the session cookie 'session', and each empties the other's "
        "session; set another SESSION_COOKIE_NAME in one of them, or the same SECRET_KEY in both"
    ],
}


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)

    def run(*arguments: str) -> tuple[list[str], int]:
        result = CliRunner().invoke(main, ["--app-dir", str(CASES), *arguments])
        return result.stdout.splitlines(), result.exit_code

    yield run
    for name in {path.stem for path in CASES.glob("*.py")} - known:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("case", MISTAKES, ids="-".join)
def test_check_option_prints_one_line_for_each_mistake_and_exits_with_1(case: tuple[str, ...], invoke: Invoke) -> None:
    lines, status = invoke(*case, "--check")
    below = [line for line in lines[-len(MISTAKES[case]) :] if not line.startswith("hint: ")]
    assert (below, status) == (MISTAKES[case], 1)


@pytest.mark.parametrize("options", [("below_root", "--root-path", "/other"), ("never_accepts",)], ids="-".join)
def test_check_option_exits_with_0_if_it_finds_no_mistake(options: tuple[str, ...], invoke: Invoke) -> None:
    _, status = invoke(*options, "--check")
    assert status == 0


ERROR = (
    "uvicorn.E003: FORCE_SCRIPT_NAME = '/old' replaces the script name '/new' of Mount('/new') in all URLs; "
    "remove FORCE_SCRIPT_NAME, or write a Route instead of the Mount"
)


@pytest.mark.parametrize(("forced", "errors", "status"), [("/old", [ERROR], 1), (None, [], 0)])
def test_check_option_exits_with_1_if_the_django_checks_find_an_error(
    forced: str | None, errors: list[str], status: int
) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(CASES), "django_site", "--check"]
    environ = {**os.environ, **({} if forced is None else {"FORCED": forced})}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    found = [line for line in result.stdout.splitlines() if "uvicorn." in line and "  " not in line]
    assert [line for line in found if not line.startswith("hint: uvicorn.W001: ")] == errors
    assert (len(found), result.returncode) == (len(errors) + 1, status)


TABLE = """\
entry              protocol   kind      application    lane
api.example/api/*  any        asgi3     sound:api      loop
/live              websocket  channels  sound:live     loop
/form              POST       wsgi      sound:guessed  16 threads
/health            any        wsgi      sound:shop     2 threads
/shop/cart         any        asgi3     sound:api      loop
/shop/cart/        any        channels  sound:live     loop
/shop/*            any        wsgi      sound:shop     4 threads
*                  any        wsgi      sound:shop     16 threads
up to 38 threads a process
"""


def test_routes_option_prints_the_table_and_exits_with_0(invoke: Invoke) -> None:
    lines, status = invoke("sound", "--routes")
    assert (lines, status) == (TABLE.splitlines(), 0)


SHIFTED_TABLE = """\
entry          protocol   kind   application         lane
/search/*      any        shift  old shifted:site    16 threads   5 % by cookie visitor
                                 new shifted:search  loop
/live          websocket  shift  old shifted:search  loop         shifted:share() % by shifted:visitor
                                 new shifted:live    loop
/in (mounted)  any        shift  old shifted:site    16 threads   0 %
/in/a          any        shift  new shifted:live    loop
/in/*          any        shift  new shifted:search  loop
/wrong         websocket  shift  old shifted:live    loop         100 %
                                 new shifted:page    16 threads
*              any        wsgi   shifted:site        16 threads
up to 32 threads a process
"""


def test_routes_option_prints_both_applications_and_the_weight_of_a_shift(invoke: Invoke) -> None:
    lines, status = invoke("shifted", "--routes")
    assert (lines, status) == (SHIFTED_TABLE.splitlines(), 0)


class Middleware:
    def __init__(self, app: Any) -> None:
        self.__wrapped__ = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.__wrapped__(environ, start_response)


def test_routes_option_counts_one_thread_pool_for_each_middleware_object() -> None:
    def page(environ: Any, start_response: Any) -> list[bytes]:
        return []

    site = Router(Route("/a", Middleware(page)), Route("/b", Middleware(page)), Route("/c", page), default=page)
    assert report(site, Settings(), "site", check=False)[0][-1] == "up to 48 threads a process"


@pytest.mark.parametrize("cut", ["yes", "no"])
def test_M16_check_option_prints_a_hint_for_a_route_below_the_root_path(cut: str, invoke: Invoke) -> None:
    lines, status = invoke("below_root", "--root-path", "/base", "--root-path-cut", cut, "--check")
    expected = (
        "hint: Route('/base/page'): its path begins like the root path '/base'; write entries without the root path"
    )
    assert (lines[-1], status) == (expected, 0)


def test_check_option_exits_with_0_if_it_prints_only_hints(invoke: Invoke) -> None:
    lines, status = invoke("sound", "--check")
    assert (lines[len(TABLE.splitlines()) :], status) == (
        [
            "hint: Route('/form', methods=('POST',)): taken for the kind wsgi because of its parameters (request, "
            "respond); if this is wrong, name the kind by interface=...",
            "hint: Route('/cart'): '/cart/' is taken by Route('/cart/'); add an entry for '/cart/' if both are the "
            "same page",
            "hint: Route('/cart/'): '/cart' is taken by Route('/cart'); add an entry for '/cart' if both are the "
            "same page",
            "hint: Route('/live', protocol='websocket'): a WSGI host has no WebSockets; serve the Router with uvicorn",
            "hint: Route('/health'): threads= has no effect on a WSGI host, which calls WSGI applications on threads "
            "of its own; set the number of threads of that host",
        ],
        0,
    )


def test_check_option_prints_one_table_row_for_a_single_application(invoke: Invoke) -> None:
    lines, status = invoke("two_kinds:app", "--check")
    assert (lines, status) == (
        [
            "entry  protocol  kind      application    lane",
            "*      any       channels  two_kinds:app  loop",
            "no threads",
        ],
        0,
    )


def test_routes_option_exits_with_2_if_the_module_cannot_be_imported(invoke: Invoke) -> None:
    lines, status = invoke("fails", "--routes")
    assert (lines, status) == ([], 2)


def test_environment_variable_UVICORN_CHECK_is_ignored(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setenv("UVICORN_CHECK", "1")
    lines, _ = invoke("two_kinds:app", "--routes")
    assert lines[0].startswith("entry")
