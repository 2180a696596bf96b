"""`environ['uvicorn.websocket']`; test_takeover.py has the end of HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import settle, until
from tests.interfaces.wsgi_websockets import Call, opened
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.wsgi_websocket import WSGIWebSocket
from uvicorn.loop_calls import LoopCalls


def echo(websocket: WSGIWebSocket) -> None:
    for message in websocket:
        websocket.send(message)


def send_endlessly(websocket: WSGIWebSocket) -> None:
    websocket.accept()
    while True:
        websocket.send(b"x" * 70_000)


async def test_W1_wsgi_websocket_echoes_text_and_bytes() -> None:
    site = await opened(Call(echo))
    assert await site.answer() == 101
    await site.say("text", b"bytes")
    assert await site.hears(2) == ["text", b"bytes"]
    await site.end()


@pytest.mark.parametrize("first", [lambda websocket: websocket.receive(0), lambda websocket: websocket.send("now")])
async def test_W1_first_receive_or_send_accepts_the_handshake(first: Callable[[WSGIWebSocket], Any]) -> None:
    site = await opened(Call(first))
    assert await site.answer() == 101
    assert await site.close_frame() == 1000
    await site.end()


async def test_W1_accept_answers_with_the_chosen_subprotocol() -> None:
    site = await opened(Call(lambda websocket: websocket.accept("b")), subprotocols=["a", "b"])
    assert await site.answer() == 101
    assert site.client.subprotocol == "b"
    await site.end()


async def test_wsgi_application_can_accept_after_an_invalid_accept() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        with pytest.raises(LocalProtocolError, match="subprotocol: expected"):
            websocket.accept("other")
        websocket.accept()

    call = Call(serve)
    site = await opened(call, subprotocols=["a"])
    assert await site.answer() == 101
    assert call.error is None
    assert site.context.ws_threads.count <= 1
    await site.end()


async def test_second_accept_raises_LocalProtocolError() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket.accept()

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 1011
    assert isinstance(call.error, LocalProtocolError)
    assert "accepted already" in str(call.error)
    await site.end()


async def test_W1_receive_returns_none_after_its_timeout() -> None:
    call = Call(lambda websocket: websocket.receive(timeout=0))
    site = await opened(call)
    assert await site.close_frame() == 1000
    assert call.returned is None
    await site.end()


async def test_W1_ClientDisconnected_has_the_close_code_and_reason_of_the_client() -> None:
    call = Call(lambda websocket: websocket.receive())
    site = await opened(call)
    await site.answer()
    site.client.send_close(4001, "enough")
    await site.flush()
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    assert (call.error.code, call.error.reason) == (4001, "enough")
    await site.end()


async def test_receive_returns_messages_that_arrived_before_the_disconnect() -> None:
    arrived = threading.Event()

    def serve(websocket: WSGIWebSocket) -> list[Any]:
        websocket.accept()
        arrived.wait()
        return list(websocket)

    call = Call(serve)
    site = await opened(call)
    await site.answer()
    await site.say("one", "two")
    await site.lose()
    arrived.set()
    await until(call.has_ended.is_set)
    assert call.returned == ["one", "two"]
    await site.end()


@pytest.mark.parametrize("method", ["receive", "send"])
async def test_receive_and_send_raise_ClientDisconnected_after_the_disconnect(method: str) -> None:
    gone = threading.Event()
    codes: list[int] = []

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        gone.wait()
        for _ in range(2):
            try:
                websocket.receive() if method == "receive" else websocket.send("text")
            except ClientDisconnected as error:
                codes.append(error.code)

    call = Call(serve)
    site = await opened(call)
    await site.answer()
    await site.lose()
    gone.set()
    await until(call.has_ended.is_set)
    assert codes == [1006, 1006]
    await site.end()


async def test_W8_close_by_another_thread_ends_receive() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        threading.Thread(target=websocket.close, args=(3001, "over")).start()
        websocket.receive()

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 3001
    await site.flush()
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    await site.end()


async def test_send_after_close_raises_ClientDisconnected() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket.close()
        websocket.send("late")

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 1000
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    assert site.heard == []
    await site.end()


async def test_repeated_close_of_a_wsgi_websocket_raises_nothing() -> None:
    gone = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket.close(3001)
        websocket.close(3002)
        gone.wait()
        websocket.close()

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 3001
    await site.lose()
    gone.set()
    await until(call.has_ended.is_set)
    assert call.error is None
    await site.end()


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda websocket: websocket.close(), "return an ordinary response"),
        (lambda websocket: websocket.close(1006), "expected a close code"),
        (lambda websocket: websocket.name, r"call accept\(\) before websocket.name"),
        (lambda websocket: websocket.send({"text": "x"}), "expected str or bytes, got dict"),
        (lambda websocket: websocket.send("\ud800"), "lone surrogate"),
    ],
)
async def test_wsgi_application_may_respond_after_a_failed_websocket_call(
    misuse: Callable[[WSGIWebSocket], Any], message: str
) -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        with pytest.raises(LocalProtocolError, match=message):
            misuse(websocket)

    call = Call(serve)
    site = await opened(call)
    assert await site.answer() == 200
    assert call.error is None
    await site.end()


async def test_later_changes_to_a_sent_bytearray_are_not_transmitted() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        data = bytearray(b"first")
        websocket.send(data)
        data[:] = b"other"
        websocket.send(memoryview(data))

    site = await opened(Call(serve))
    assert await site.hears(2) == [b"first", b"other"]
    await site.end()


async def test_W8_receive_raises_while_another_thread_receives() -> None:
    errors: list[LocalProtocolError] = []

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        assert websocket._inbox._receiver.acquire(blocking=False)  # as if another thread waited in `receive`
        try:
            websocket.receive()
        except LocalProtocolError as error:
            errors.append(error)

    site = await opened(Call(serve))
    assert await site.close_frame() == 1000
    assert "another thread is receiving" in str(errors[0])
    await site.end()


async def test_W8_messages_of_several_threads_arrive_whole() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()

        def send(letter: str) -> None:
            for _ in range(50):
                websocket.send(letter * 1000)

        threads = [threading.Thread(target=send, args=(letter,)) for letter in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    site = await opened(Call(serve))
    heard = await site.hears(200)
    assert sorted(heard) == sorted(letter * 1000 for letter in "abcd" for _ in range(50))
    await site.end()


async def test_send_blocks_while_the_client_is_slow() -> None:
    sent: list[int] = []
    is_slow = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        is_slow.wait()
        # Empty messages: more than the 256 that may wait unawaited.
        for number in range(2000):
            websocket.send("")
            sent.append(number)

    site = await opened(Call(serve))
    await site.answer()
    site.transport.client_takes = False
    site.transport.set_write_buffer_limits(high=16)
    is_slow.set()
    await until(lambda: len(sent) > 400)
    await settle(200)
    assert len(sent) < 1000
    site.transport.client_takes = True
    site.transport.take(1 << 20)
    assert await site.close_frame() == 1000
    assert len(site.heard) == 2000
    await site.end()


async def test_blocked_send_raises_when_the_slow_client_disconnects() -> None:
    call = Call(send_endlessly)
    site = await opened(call)
    site.transport.client_takes = False
    await until(lambda: site.transport.protocol.write_paused)
    await settle(200)
    await site.lose()
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    await site.end()


@pytest.mark.parametrize("setting", [{"ws_max_queue": 2}, {"read_buffer_bytes": 8}])
async def test_reading_pauses_while_messages_wait_for_receive(setting: dict[str, int]) -> None:
    proceed = threading.Event()

    def serve(websocket: WSGIWebSocket) -> list[Any]:
        websocket.accept()
        proceed.wait()
        return [websocket.receive() for _ in range(4)]

    call = Call(serve)
    site = await opened(call, **setting)
    await site.answer()
    await site.say("first", "second", "third", "fourth")
    assert not site.transport.reading
    proceed.set()
    await until(call.has_ended.is_set)
    assert call.returned == ["first", "second", "third", "fourth"]
    await until(lambda: site.transport.reading)
    await site.end()


async def test_silent_client_of_a_wsgi_websocket_is_pinged() -> None:
    site = await opened(Call(echo))
    await site.answer()
    site.clock.advance(21)
    site.look()
    assert [frame.opcode.name for frame in site.frames] == ["PING"]
    await site.end()


async def test_wsgi_websocket_closes_after_a_message_above_the_size_limit() -> None:
    call = Call(lambda websocket: websocket.receive())
    site = await opened(call, ws_max_size=200)
    await site.answer()
    await site.say("x" * 201)
    assert await site.close_frame() == 1009
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    assert call.error.code == 1009
    await site.end()


async def test_implicit_accept_does_nothing_after_an_explicit_accept() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket._accept_once()

    site = await opened(Call(serve))
    assert await site.close_frame() == 1000
    await site.end()


async def test_wsgi_websocket_receive_raises_after_use_of_the_werkzeug_socket() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket._takeover.take(lambda: websocket._session.accept())
        websocket.receive()

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 1011
    assert isinstance(call.error, LocalProtocolError)
    assert "werkzeug.socket" in str(call.error)
    await site.end()


async def test_accept_on_a_closing_transport_raises_ClientDisconnected() -> None:
    proceed = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        proceed.wait()
        websocket.accept()

    call = Call(serve)
    site = await opened(call)
    # As after a write that has failed: the event loop reports it later.
    site.transport.closing = True
    proceed.set()
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    site.transport.closing = False
    await site.end()


async def test_send_to_a_stopped_event_loop_raises_ClientDisconnected() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket._loop_calls = LoopCalls(loop)
        websocket.send("late")

    call = Call(serve)
    site = await opened(call)
    assert await site.close_frame() == 1011
    assert isinstance(call.error, ClientDisconnected)
    await site.end()


@pytest.mark.parametrize("use", ["receive", "send"])
async def test_closed_event_loop_ends_a_waiting_websocket_receive_or_send(use: str) -> None:
    loop = asyncio.new_event_loop()
    calls = LoopCalls(loop)

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket._loop_calls = websocket._inbox._loop_calls = calls
        if use == "receive":
            websocket.receive()
        else:
            websocket.send("x" * 100_000)

    call = Call(serve)
    site = await opened(call)
    await until(lambda: calls._wakes)
    loop.close()
    assert await site.close_frame() == 1011
    assert isinstance(call.error, ClientDisconnected)
    await site.end()


async def test_receive_after_a_disconnect_does_not_resume_reading() -> None:
    gone = threading.Event()

    def serve(websocket: WSGIWebSocket) -> Any:
        websocket.accept()
        gone.wait()
        return websocket.receive()

    call = Call(serve)
    site = await opened(call, ws_max_queue=1)
    await site.answer()
    await site.say("only")
    await site.lose()
    gone.set()
    await until(call.has_ended.is_set)
    assert call.returned == "only"
    await site.end()


@pytest.mark.parametrize("method", ["accept", "receive", "send"])
async def test_blocking_websocket_call_on_the_event_loop_thread_raises(method: str) -> None:
    websockets: list[WSGIWebSocket] = []
    proceed = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        websockets.append(websocket)
        proceed.wait()

    site = await opened(Call(serve))
    await until(lambda: websockets)
    with pytest.raises(LocalProtocolError, match="another thread"):
        getattr(websockets[0], method)(*(["text"] if method == "send" else []))
    proceed.set()
    assert await site.answer() == 200
    await site.end()


async def test_W4_wsgi_websocket_is_compressed_if_the_client_offers_compression() -> None:
    site = await opened(Call(echo), compression=True)
    assert await site.answer() == 101
    await site.say("x" * 10_000)
    assert await site.hears() == ["x" * 10_000]
    assert len(site.received) < 1000
    await site.end()


async def test_W4_client_that_reads_nothing_is_reset() -> None:
    call = Call(send_endlessly)
    site = await opened(call)
    site.transport.client_takes = False
    await until(lambda: site.transport.protocol.write_paused)
    site.clock.advance(62)
    assert site.transport.aborted
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    await site.end()
