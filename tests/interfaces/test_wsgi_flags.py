"""`wsgi.multithread` and `wsgi.multiprocess`: whether the application runs beside itself (PEP 3333)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.adapters.test_wsgi import call, environ_of
from tests.helpers import GET, Conversation, until
from tests.interfaces.wsgi_conversations import WAYS, response_of
from uvicorn import process_count
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter


def flags(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((environ["wsgi.multithread"], environ["wsgi.multiprocess"])).encode()]


async def flags_of(app: Any, **settings: Any) -> tuple[bool, bool]:
    conversation = Conversation(app, **settings)
    conversation.send(GET)
    await until(lambda: conversation.received and not conversation.context.requests)
    content = conversation.responses()[0].content
    await conversation.lose()
    await conversation.interface.shutdown(1)
    found: tuple[bool, bool] = ast.literal_eval(content.decode())
    return found


@pytest.fixture(autouse=True)
def no_server_has_said_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "count", 0)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


class InTheCaller(Executor):
    """An executor that does not say how many calls it runs at a time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("threads", [1, 2, 16])
async def test_wsgi_multithread_is_true_if_there_is_more_than_one_thread(threads: int) -> None:
    assert await flags_of(flags, threads=threads) == (threads > 1, False)


@pytest.mark.parametrize("threads", [1, 2, None])
async def test_wsgi_multithread_is_false_only_for_an_adapter_with_one_thread(threads: int | None) -> None:
    assert await flags_of(ASGIAdapter(flags, threads=threads)) == (threads != 1, False)


@pytest.mark.parametrize("workers", [1, 3])
async def test_wsgi_multithread_is_true_for_an_executor_with_several_threads(workers: int) -> None:
    with ThreadPoolExecutor(workers) as executor:
        assert await flags_of(ASGIAdapter(flags, executor=executor)) == (workers > 1, False)


async def test_wsgi_multithread_is_true_for_an_executor_of_unknown_size() -> None:
    assert await flags_of(ASGIAdapter(flags, executor=InTheCaller())) == (True, False)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_multiprocess_is_true_if_the_server_has_several_processes(
    way: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_count, "count", count)
    content = (await response_of(GET, way, flags)).content
    assert ast.literal_eval(content.decode()) == (True, count == 2)


async def test_wsgi_multiprocess_follows_WEB_CONCURRENCY_in_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert await flags_of(ASGI3Adapter(flags)) == (True, True)
    monkeypatch.setattr(process_count, "count", 1)
    assert await flags_of(ASGI3Adapter(flags)) == (True, False)


@pytest.mark.parametrize("said", [True, False])
def test_inner_of_two_adapters_gets_the_wsgi_multiprocess_value_of_the_host(said: bool) -> None:
    adapter = WSGIAdapter(ASGIAdapter(flags, threads=1))
    answer = call(adapter, environ_of(**{"wsgi.multiprocess": said, "wsgi.multithread": True}))
    assert ast.literal_eval(answer.content.decode()) == (False, said)


def test_wsgi_multiprocess_of_the_host_reaches_an_adapter_in_a_channels_application() -> None:
    inner = ASGIAdapter(flags)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await inner(message, channels)

    answer = call(WSGIAdapter(app), environ_of(**{"wsgi.multiprocess": True}))
    assert ast.literal_eval(answer.content.decode()) == (True, True)
