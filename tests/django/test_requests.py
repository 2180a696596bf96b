"""`request_of` and `login_required`: Django's request, session and login in coroutines outside of Django."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.test import override_settings
from django.urls import get_script_prefix, reverse
from django.views.decorators.csrf import csrf_exempt

from tests.django.site import Reply, event, scope_of
from uvicorn.django import DjangoThreads, login_required, request_of
from uvicorn.interfaces.detect import detect_interface

pytestmark = pytest.mark.any_loop

Make = Callable[..., DjangoThreads]


def message_of(kind: str = "http.request", headers: dict[str, str] | None = None, **keys: Any) -> dict[str, Any]:
    """Return a channels message as this server makes it."""
    message = {**scope_of(headers=headers), "channel": kind, **keys}
    del message["type"], message["asgi"]
    return message


@pytest.fixture
def session_key(postgres: Path) -> Iterator[str]:
    """The session of a user that is logged in."""
    user, _ = User.objects.get_or_create(username="ada")
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    request.session.save()
    yield request.session.session_key
    request.session.flush()


@pytest.fixture(params=["message", "scope"])
def source(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    return message_of if request.param == "message" else lambda **keys: scope_of(**keys)


# request_of


def test_django_request_contains_the_data_of_its_message(
    source: Callable[..., dict[str, Any]],
) -> None:
    headers = {"cookie": "a=1; b=2", "user-agent": "test", "accept-language": "de"}
    request = request_of(source(headers=headers, query_string=b"x=%C3%BC", path="/live"))
    assert request.method == "GET" and request.path == "/live" and request.GET["x"] == "ü"
    assert request.COOKIES == {"a": "1", "b": "2"}
    assert request.META["HTTP_USER_AGENT"] == "test" and request.META["REMOTE_ADDR"] == "192.0.2.1"
    assert request.LANGUAGE_CODE == "de"


def test_request_with_an_unknown_host_raises_when_its_host_is_read() -> None:
    assert request_of(message_of()).get_host() == "site.example"
    request = request_of(message_of(headers={"host": "other.example"}))
    with pytest.raises(DisallowedHost):
        request.get_host()


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True), ("ws", False), ("wss", True)])
def test_django_request_of_a_handshake_is_secure_only_for_https_or_wss(scheme: str, secure: bool) -> None:
    message = message_of("websocket.connect", scheme=scheme)
    del message["method"]
    request = request_of(message)
    assert request.method == "GET" and request.is_secure() is secure


def test_django_request_parses_a_form_from_the_content() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert request_of(message_of(method="POST", headers=headers), b"a=1").POST["a"] == "1"
    assert request_of(message_of(method="POST", headers=headers, body=b"a=2")).POST["a"] == "2"


@pytest.mark.parametrize(
    ("root_path", "path", "path_info", "url"),
    [
        ("", "/live", "/live", "/login/"),
        ("/base", "/base/live", "/live", "/base/login/"),
        ("/old", "/older", "/older", "/login/"),
    ],
)
async def test_django_reverse_includes_the_root_path_of_the_request(
    root_path: str, path: str, path_info: str, url: str
) -> None:
    request = request_of(message_of(root_path=root_path, path=path))
    assert request.path_info == path_info and reverse("login") == url


async def test_script_prefix_is_restored_when_the_request_has_ended(threads_of: Make) -> None:
    async def app(message: Any, channels: Any) -> None:
        request_of(message)
        assert get_script_prefix() == "/base/"

    await event(threads_of(app), "http.request", root_path="/base", path="/base/")
    assert get_script_prefix() == "/"


async def test_request_has_the_user_of_its_session(session_key: str) -> None:
    request = request_of(message_of(headers={"cookie": f"sessionid={session_key}"}))
    assert (await request.auser()).username == "ada"


@pytest.mark.parametrize("cookie", ["", "sessionid=", "sessionid=unknown"])
async def test_request_without_a_session_has_an_anonymous_user(cookie: str, postgres: Path) -> None:
    assert (await request_of(message_of(headers={"cookie": cookie})).auser()).is_anonymous


async def test_session_signed_with_an_old_secret_key_stays_valid(session_key: str) -> None:
    with override_settings(SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["only for tests"]):
        request = request_of(message_of(headers={"cookie": f"sessionid={session_key}"}))
        assert (await request.auser()).username == "ada"
    assert request.session.session_key == session_key
    assert await sync_to_async(SessionStore().exists)(session_key)


def test_request_lacks_the_session_attribute_if_the_sessions_app_is_missing() -> None:
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        assert not hasattr(request_of(message_of()), "session")


# login_required


async def handler(message: Any, channels: Any) -> None:
    if message["channel"] == "http.request":
        await channels["reply"].send({"status": 200, "content": message["user"].username.encode()})
    else:
        await channels["reply"].send({"accept": True})


async def asgi_handler(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"Origin")]})
        await send({"type": "http.response.body", "body": scope["user"].username.encode()})
    else:
        await send({"type": "websocket.accept"})


async def ask(kind: str, **keys: Any) -> list[dict[str, Any]]:
    """Return the messages that `login_required` sends in reply to a request or a handshake."""
    if kind in ("http", "websocket"):
        sent: list[dict[str, Any]] = []

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await login_required(asgi_handler)(scope_of(type=kind, **keys), None, send)
        return sent
    reply = Reply()
    await login_required(handler)(message_of(kind, **keys), {"reply": reply})
    return reply.messages


@pytest.mark.parametrize("kind", ["http", "http.request"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_anonymous_request_is_redirected_to_the_login_page(kind: str, method: str) -> None:
    start = (await ask(kind, method=method, path="/page", query_string=b"a=1"))[0]
    assert start["status"] == 302
    assert (b"location", b"/login/?next=%2Fpage%3Fa%3D1") in start["headers"]
    assert (b"vary", b"Cookie") in start["headers"]


@pytest.mark.parametrize(("kind", "rejection"), [("websocket", "websocket.close"), ("websocket.connect", None)])
async def test_anonymous_handshake_is_rejected_by_login_required(kind: str, rejection: str | None) -> None:
    (sent,) = await ask(kind)
    assert sent == ({"type": rejection, "code": 1008} if rejection else {"accept": False})


@pytest.mark.parametrize("kind", ["http", "http.request"])
async def test_handler_with_login_required_gets_the_user(kind: str, session_key: str) -> None:
    sent = await ask(kind, headers={"cookie": f"sessionid={session_key}"})
    assert sent[0]["status"] == 200 and (b"vary", b"Cookie") in sent[0]["headers"]
    assert b"ada" in (sent[0].get("content"), sent[-1].get("body"))


@pytest.mark.parametrize("kind", ["websocket", "websocket.connect"])
async def test_login_required_accepts_a_handshake_with_a_logged_in_session(kind: str, session_key: str) -> None:
    (sent,) = await ask(kind, headers={"cookie": f"sessionid={session_key}"})
    assert sent.get("accept") or sent["type"] == "websocket.accept"


async def csrf_headers(session_key: str) -> dict[str, str]:
    request = HttpRequest()
    token = get_token(request)
    cookies = SimpleCookie({"sessionid": session_key, "csrftoken": request.META["CSRF_COOKIE"]})
    return {"cookie": cookies.output([], "", ";").replace("\r\n", ""), "x-csrftoken": token}


@pytest.mark.parametrize("kind", ["http", "http.request"])
async def test_post_without_the_csrf_token_is_answered_with_403(
    kind: str, session_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = await csrf_headers(session_key)
    assert (await ask(kind, method="POST", headers=headers))[0]["status"] == 200
    del headers["x-csrftoken"]
    rejected = (await ask(kind, method="POST", headers=headers))[0]
    assert rejected["status"] == 403 and (b"vary", b"Cookie") in rejected["headers"]


async def test_csrf_exempt_handler_needs_no_token(session_key: str) -> None:
    reply = Reply()
    message = message_of(method="POST", headers={"cookie": f"sessionid={session_key}"})
    await login_required(csrf_exempt(handler))(message, {"reply": reply})
    assert reply.messages[0]["status"] == 200


async def test_login_required_leaves_a_vary_field_that_contains_cookie_unchanged(session_key: str) -> None:
    async def app(message: Any, channels: Any) -> None:
        # Other attributes of the reply channel are its own.
        assert channels["reply"].messages == []
        await channels["reply"].send({"status": 200, "headers": [[b"Vary", b"Accept, Cookie"]], "more_content": True})
        await channels["reply"].send({"content": b"end"})

    reply = Reply()
    message = message_of(headers={"cookie": f"sessionid={session_key}"})
    await login_required(app)(message, {"reply": reply})
    assert reply.messages[0]["headers"] == [[b"Vary", b"Accept, Cookie"]]
    assert reply.messages[1] == {"content": b"end"}


async def test_login_required_passes_websocket_messages_to_the_handler() -> None:
    received = []

    async def app(message: Any, channels: Any) -> None:
        received.append(message)

    await login_required(app)({"channel": "websocket.receive", "text": "hi"}, {"reply": None})
    assert received == [{"channel": "websocket.receive", "text": "hi"}]


@pytest.mark.parametrize(("app", "name"), [(handler, "channels"), (asgi_handler, "asgi3")])
def test_login_required_does_not_change_the_detected_interface(app: Any, name: str) -> None:
    assert detect_interface(login_required(app)) == name


async def test_login_required_checks_the_user_on_the_thread_of_the_request(threads_of: Make, session_key: str) -> None:
    site = threads_of(login_required(handler), threads=1)
    keys = message_of(headers={"cookie": f"sessionid={session_key}"})
    del keys["channel"], keys["path"]
    replies = await asyncio.gather(*(event(site, "http.request", **keys) for _ in range(10)))
    assert [reply.messages[0]["content"] for reply in replies] == [b"ada"] * 10
    assert site.lanes.requests.alive == 1
