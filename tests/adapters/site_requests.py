"""The requests to the frameworks' sites, as conversations of one or more requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from tests.adapters.wire import Answer, ask

Conversation = Callable[[int], list[Answer]]

_BOUNDARY: Final = "----boundary----"
_MULTIPART: Final = ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
_URLENCODED: Final = ("Content-Type", "application/x-www-form-urlencoded")
_BINARY: Final = ("Content-Type", "application/octet-stream")
_FORM: Final = b"a=1&a=2&b=%C3%BC+%26&c="
_MEGABYTE: Final = bytes(range(256)) * 4096


def one(
    target: str | bytes = "/",
    *,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    content: bytes | None = None,
    chunks: Sequence[bytes] | None = None,
    version: str = "1.1",
) -> Conversation:
    """Return a conversation of one request."""
    return lambda port: [
        ask(port, target, method=method, fields=fields, content=content, chunks=chunks, version=version)
    ]


def multipart(*more: tuple[str, str]) -> bytes:
    """Return a form with a file of 1 MiB."""
    values = [("note", "a note, ü"), *more]
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in values
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="some file.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode() + head.encode() + _MEGABYTE + f"\r\n--{_BOUNDARY}--\r\n".encode()


def in_pieces(content: bytes, size: int) -> list[bytes]:
    """Return `content` in chunks of `size`."""
    return [content[start : start + size] for start in range(0, len(content), size)]


def conditional(port: int) -> list[Answer]:
    """Request a file, then the file if modified, then a part of it."""
    whole = ask(port, "/file")
    since = whole.values("last-modified") or ["Thu, 01 Jan 1970 00:00:00 GMT"]
    return [
        whole,
        ask(port, "/file", fields=[("If-Modified-Since", since[0])]),
        ask(port, "/file", fields=[("If-None-Match", tag) for tag in whole.values("etag")]),
        ask(port, "/file", fields=[("Range", "bytes=10-19")]),
        ask(port, "/file", fields=[("Range", "bytes=99999999-")]),
        ask(port, "/file", method="HEAD"),
    ]


# Not asked, because gunicorn is wrong: two Cookie fields, which it joins with a comma; an upload that is cut off, which
# it takes for the whole.
REQUESTS: Final[dict[str, Conversation]] = {
    "a page": one("/"),
    "a page, HTTP/1.0": one("/", version="1.0"),
    "HEAD of a page": one("/", method="HEAD"),
    "HEAD of a stream": one("/stream", method="HEAD"),
    "OPTIONS": one("/", method="OPTIONS"),
    "a method of its own": one("/", method="BREW"),
    "404": one("/nowhere/at%20all?x=%3Cscript%3E"),
    "405": one("/form"),
    "a redirect": one("/redirect"),
    "a slash too many": one("//show//a//b/"),
    "dots": one("/show/../show/./a/..%2f"),
    "odd query": one("/show/x?a=%zz&b=%C3%BC&c=a+b&d&=e&a=2&x[]=1&;f=g&h=%00&i=%ff&j=a=b?c/d:@!$'()*,"),
    "query without path": one("/show/?"),
    "unicode path": one("/show/%C3%BC/%E4%B8%96%E7%95%8C"),
    "a path that is not UTF-8": one("/show/a%ffb%C3"),
    "%2F": one("/show/a%2Fb%2f"),
    "%25": one("/show/%252F%25"),
    "%00": one("/show/a%00b"),
    "a path with all that it may have": one("/show/a;b=c,d:e@f!g$h&i'j(k)*l+m=n~o-p_q.r"),
    "environ": one("/environ?q=%20&r=%C3%BC", fields=[("X-Some", "thing"), ("Accept-Language", "de, en")]),
    "environ of encoded paths": one("/env%69ron?%71"),
    "duplicated fields": one("/environ", fields=[("X-Two", "1"), ("X-Other", ""), ("x-two", "2, 3"), ("X-Two", "")]),
    "latin-1 in a field": one("/environ", fields=[("X-Name", "Jürgen"), ("X-Tab", "a\tb")]),
    "underscores in a field's name": one("/environ", fields=[("X_Some", "evil"), ("X-Some", "good")]),
    "a big field": one("/environ", fields=[("X-Big", "b" * 7000), ("Cookie", "c=" + "d" * 6000)]),
    "many fields": one("/environ", fields=[(f"X-Field-{number}", "v" * 100) for number in range(90)]),
    "cookies": one("/cookies", fields=[("Cookie", 'a=1; b="two words"; c=; a=2; d=%C3%BC')]),
    "authorization": one("/environ", fields=[("Authorization", "Basic cm9vdDpzZWNyZXQ=")]),
    "a form": one("/form", method="POST", fields=[_URLENCODED], content=_FORM),
    "a form to nowhere": one("/nowhere", method="POST", fields=[_URLENCODED], content=_FORM),
    "a form not read": one("/environ", method="POST", fields=[_URLENCODED], content=_FORM),
    "a megabyte not read": one("/environ", method="POST", fields=[_BINARY], content=_MEGABYTE),
    "an upload": one("/upload", method="POST", fields=[_MULTIPART], content=multipart()),
    "no content": one("/raw", method="POST", fields=[_BINARY], content=b""),
    "content": one("/raw", method="POST", fields=[_BINARY], content=_MEGABYTE),
    "chunks": one("/raw", method="POST", fields=[_BINARY], chunks=in_pieces(_MEGABYTE, 10000)),
    "a form in chunks": one("/form", method="POST", fields=[_URLENCODED], chunks=in_pieces(_FORM, 3)),
    "an upload in chunks": one("/upload", method="POST", fields=[_MULTIPART], chunks=in_pieces(multipart(), 50000)),
    "JSON": one(
        "/json", method="POST", fields=[("Content-Type", "application/json")], content=b'{"a": ["\\u00fc", 1]}'
    ),
    "malformed JSON": one("/json", method="POST", fields=[("Content-Type", "application/json")], content=b"{"),
    "a stream": one("/stream"),
    "a stream, HTTP/1.0": one("/stream", version="1.0"),
    "an exception": one("/fail"),
    "HEAD of an exception": one("/fail", method="HEAD"),
    "204": one("/nothing"),
    "a file": conditional,
    "a big page": one("/big"),
}


def _set_cookies(answers: Sequence[Answer]) -> tuple[str, str]:
    """Return the Cookie field for the cookies of a response."""
    cookies = dict(value.partition(";")[0].split("=", 1) for answer in answers for value in answer.values("set-cookie"))
    return "Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())


def _form_token(answer: Answer) -> str:
    found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', answer.content)
    assert found is not None, answer
    return found[1].decode()


def _posted(token: str, **values: str) -> bytes:
    return "&".join(f"{name}={value}" for name, value in (values | {"csrfmiddlewaretoken": token}).items()).encode()


def admin_login(port: int) -> list[Answer]:
    """Log in to the admin, and request its front page."""
    answers = [ask(port, "/admin/"), ask(port, "/admin/login/?next=/admin/")]
    origin = ("Origin", "http://example.test")
    wrong = _posted(_form_token(answers[1]), username="root", password="wrong")
    right = _posted(_form_token(answers[1]), username="root", password="secret", next="/admin/")
    for content in (wrong, right):
        fields = [_set_cookies(answers), _URLENCODED, origin]
        answers.append(ask(port, "/admin/login/?next=/admin/", method="POST", fields=fields, content=content))
    fields = [_set_cookies(answers)]
    answers.append(ask(port, "/admin/", fields=fields))
    answers.append(ask(port, "/admin/auth/user/?q=root", fields=fields))
    page = ask(port, "/admin/auth/group/add/", fields=fields)
    answers.append(page)
    content = _posted(_form_token(page), name="group", _save="Save")
    fields = [_set_cookies(answers), _URLENCODED, origin]
    answers.append(ask(port, "/admin/auth/group/add/", method="POST", fields=fields, content=content))
    # With the message that it has been added.
    answers.append(ask(port, "/admin/auth/group/", fields=[_set_cookies(answers)]))
    assert [answer.status for answer in answers] == [302, 200, 200, 302, 200, 200, 200, 302, 200]
    return answers


def admin_without_csrf(port: int) -> list[Answer]:
    """Log in without a CSRF token, as a forged form does."""
    content = _posted("0" * 64, username="root", password="secret")
    return [ask(port, "/admin/login/", method="POST", fields=[_URLENCODED], content=content)]


def django_upload(port: int) -> list[Answer]:
    """Upload a file through a form with a CSRF token."""
    page = ask(port, "/upload")
    fields = [_set_cookies([page]), _MULTIPART]
    content = multipart(("csrfmiddlewaretoken", page.content.decode()))
    upload = ask(port, "/upload", method="POST", fields=fields, content=content)
    assert upload.status == 200
    return [page, upload]


DJANGO_REQUESTS: Final[dict[str, Conversation]] = {
    "the admin": admin_login,
    "a forged login": admin_without_csrf,
    "an upload with a token": django_upload,
}

_RANDOM: Final = re.compile(
    r"(?:(?<=csrftoken=)|(?<=sessionid=)|(?<=csrfmiddlewaretoken\" value=\"))\w+"
    r"|(?<=[Ee]xpires=)[^;]+|(?<=^expires: ).+|^\w{64}$"
)


def masked(text: str) -> str:
    """Return `text` without tokens, session keys and expiry times, which differ each time."""
    return _RANDOM.sub("*", text)
