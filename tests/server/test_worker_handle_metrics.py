"""The numbers that workers send to their supervisor, and workers that end in between."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers import hello
from uvicorn import Config
from uvicorn.server.metrics import MAX_LINE_BYTES, Snapshot, encoded
from uvicorn.server.process_end import SupervisorWatch
from uvicorn.server.worker_handle import Worker, WorkerMetrics
from uvicorn.server.worker_server import WorkerServer


@pytest.fixture
def pair() -> Iterator[tuple[Worker, socket.socket]]:
    """A worker as its supervisor sees it, and the worker's end of the channel."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Worker(process, ours, None), theirs


@pytest.fixture
def metrics() -> Iterator[WorkerMetrics]:
    served = WorkerMetrics("127.0.0.1:0")
    served.open()
    yield served
    served.close()


def numbers(messages: float, padding: str = "") -> Snapshot:
    return Snapshot({"server": {"": [1, messages]}, padding: {}}, {}, {})


def shown(metrics: WorkerMetrics) -> bytes:
    assert metrics.totals is not None
    return metrics.totals.text()


def test_supervisor_reads_the_last_metrics_of_a_worker_that_has_ended(
    pair: tuple[Worker, socket.socket], metrics: WorkerMetrics
) -> None:
    worker, channel = pair
    channel.sendall(f"alive\nmetrics {encoded(numbers(7))}\nmetrics {encoded(numbers(9))}\n".encode())
    channel.close()
    metrics.end(worker)
    assert b"uvicorn_websocket_messages_received_total 9\n" in shown(metrics)


def test_supervisor_reads_a_last_metrics_line_of_150000_bytes(
    pair: tuple[Worker, socket.socket], metrics: WorkerMetrics
) -> None:
    worker, channel = pair
    channel.sendall(f"metrics {encoded(numbers(9, 'x' * 150_000))}\n".encode())
    metrics.end(worker)
    assert b"uvicorn_websocket_messages_received_total 9\n" in shown(metrics)


def test_unfinished_line_after_the_metrics_of_a_worker_is_ignored(
    pair: tuple[Worker, socket.socket], metrics: WorkerMetrics
) -> None:
    worker, channel = pair
    channel.sendall(f"metrics {encoded(numbers(9))}\nmetr".encode())
    metrics.end(worker)
    assert b"uvicorn_websocket_messages_received_total 9\n" in shown(metrics)


def test_supervisor_ignores_worker_metrics_if_no_metrics_address_is_set(pair: tuple[Worker, socket.socket]) -> None:
    worker, channel = pair
    metrics = WorkerMetrics("")
    metrics.open()
    channel.sendall(f"metrics {encoded(numbers(9))}\n".encode())
    metrics.update(worker, encoded(numbers(9)))
    metrics.end(worker)
    metrics.close()
    assert metrics.totals is None


def test_endless_metrics_line_from_a_worker_is_dropped(pair: tuple[Worker, socket.socket]) -> None:
    worker, channel = pair
    for _ in range(40):
        channel.sendall(b"x" * 65536)
        assert worker.received_lines() == []
    assert len(worker.buffer) <= 2 << 20


def reporting(channel: socket.socket) -> WorkerServer:
    return WorkerServer(Config(hello, log_config=None), channel, SupervisorWatch(channel, 1.0))


def test_server_sends_the_rest_of_a_metrics_line_later_if_the_channel_is_full(
    pair: tuple[Worker, socket.socket],
) -> None:
    worker, channel = pair
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = reporting(channel)
    server.report_metrics(numbers(1, "x" * 100_000))
    server.report_metrics(numbers(2))
    found: list[tuple[str, str]] = []
    while not found:
        found += worker.received_lines() or []
        server.report_metrics(numbers(3))
    assert {word for word, _ in found} == {"metrics"}
    assert found[0][1] == encoded(numbers(1, "x" * 100_000))


def test_ready_message_arrives_after_a_metrics_line_that_fills_the_channel(
    pair: tuple[Worker, socket.socket],
) -> None:
    worker, channel = pair
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = reporting(channel)
    server.report_metrics(numbers(1, "x" * 100_000))
    server.report("ready")
    found: list[tuple[str, str]] = []
    while len(found) < 2:
        found += worker.received_lines() or []
        server.report("alive")
    assert [word for word, _ in found][:2] == ["metrics", "ready"]


def test_worker_does_not_send_metrics_above_one_mebibyte(pair: tuple[Worker, socket.socket]) -> None:
    worker, channel = pair
    server = reporting(channel)
    server.report_metrics(numbers(1, "x" * MAX_LINE_BYTES))
    server.report("alive")
    assert worker.received_lines() == [("alive", "")]
