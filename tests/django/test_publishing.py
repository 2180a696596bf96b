"""`publish_on_commit`: messages are sent after a commit, never after a rollback."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from tests.django.site import Reply
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.django import publish_on_commit, publishing
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.log_limit import LogLimit

pytestmark = pytest.mark.any_loop

pytest_plugins = ["uvicorn.django.pytest_plugin"]

Published = list[tuple[str, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _database(postgres: Path) -> None: ...


def test_message_is_sent_after_the_commit(published_messages: Published) -> None:
    with transaction.atomic():
        publish_on_commit("news", {"text": "saved"})
        assert published_messages == []
    assert published_messages == [("news", {"text": "saved"})]


def test_message_is_sent_at_once_without_a_transaction(published_messages: Published) -> None:
    publish_on_commit("news", {"text": "saved"})
    assert published_messages == [("news", {"text": "saved"})]


def test_publish_on_commit_waits_for_the_commit_of_the_selected_database(
    published_messages: Published,
) -> None:
    with transaction.atomic("kept"):
        with transaction.atomic():
            publish_on_commit("news", {"text": "saved"}, using="kept")
        assert published_messages == []
    assert len(published_messages) == 1


@pytest.mark.parametrize("savepoint", [False, True])
def test_message_is_dropped_after_a_rollback(published_messages: Published, savepoint: bool) -> None:
    with transaction.atomic():
        with transaction.atomic(savepoint=savepoint):
            publish_on_commit("news", {"text": "lost"})
            transaction.set_rollback(True)
        if not savepoint:
            transaction.set_rollback(True)
    assert published_messages == []


def test_publish_on_commit_ignores_later_changes_to_the_message(published_messages: Published) -> None:
    with transaction.atomic():
        message = {"text": "saved"}
        publish_on_commit("news", message)
        message["text"] = "changed"
    assert published_messages == [("news", {"text": "saved"})]


@pytest.mark.parametrize(("group", "message"), [("", {"text": "x"}), ("news", {"text": object()}), ("news", "text")])
def test_message_that_cannot_be_sent_raises_before_the_commit(group: str, message: Any) -> None:
    with pytest.raises(LocalProtocolError):
        publish_on_commit(group, message)


@pytest.fixture
def nothing_listens(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a Redis that is down."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("UVICORN_BROADCAST_URL", url)
        yield url


def test_three_saves_during_a_redis_outage_succeed_and_log_one_warning(
    nothing_listens: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with transaction.atomic():
            publish_on_commit("news", {"text": "saved"})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_published_messages_fixture_does_not_change_the_broadcast_url(
    nothing_listens: str, published_messages: Published, caplog: pytest.LogCaptureFixture
) -> None:
    publish_on_commit("news", {"text": "saved"})
    assert os.environ["UVICORN_BROADCAST_URL"] == nothing_listens
    assert published_messages and caplog.records


def test_publish_on_commit_logs_no_warning_if_no_client_is_connected(
    published_messages: Published, caplog: pytest.LogCaptureFixture
) -> None:
    publish_on_commit("news", {"text": "saved"})
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_three_failed_sends_after_a_commit_are_logged_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UVICORN_BROADCAST_URL", "redis://localhost")
    monkeypatch.setattr(publishing, "_lost", LogLimit())

    def fail(group: str, message: Any) -> None:
        raise BroadcastUnavailable("the server has stopped")

    monkeypatch.setattr(publishing, "publish", fail)
    for _ in range(3):
        publish_on_commit("news", {"text": "saved"})
    assert [record.getMessage() for record in caplog.records] == [
        "group 'news': 1 messages were not sent after a commit: the server has stopped"
    ]


async def test_publish_on_commit_reaches_a_client_of_the_same_process(published_messages: Published) -> None:
    received = asyncio.Event()

    class Client(Reply):
        name = "client"

        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            received.set()

        def on_close(self, callback: Any) -> None: ...

        def on_end(self, callback: Any) -> None: ...

    async def app(message: Any, channels: Any) -> None:
        await channels["groups"].send({"group": "news", "add": channels["reply"].name})

    site = BroadcastMiddleware(app, url="memory://")
    await site.startup()
    client = Client()
    await site({"channel": "websocket.connect", "path": "/"}, {"reply": client})
    await sync_to_async(publish_on_commit)("news", {"text": "saved"})
    await received.wait()
    await site.shutdown()
    assert client.messages == [{"text": "saved"}]


# The tests of sites, which run without a Redis

SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["uvicorn.django", "notes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""

MODELS = """
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver

from uvicorn.django import publish_on_commit

class Note(models.Model):
    text = models.TextField()

@receiver(post_save, sender=Note)
def notify(instance, **kwargs):
    publish_on_commit("notes", {"text": instance.text})
"""

TESTS = """
from django.test import TestCase, TransactionTestCase

from notes.models import Note

class Fast(TestCase):
    def test_save(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            Note.objects.create(text="saved")
        assert len(callbacks) == 1

class Slow(TransactionTestCase):
    def test_save(self):
        Note.objects.create(text="saved")
"""

PYTEST_TESTS = """
import pytest

from notes.models import Note

pytest_plugins = ["uvicorn.django.pytest_plugin"]

@pytest.mark.django_db
def test_save(published_messages, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        Note.objects.create(text="saved")
    assert published_messages == [("notes", {"text": "saved"})]

@pytest.mark.django_db(transaction=True)
def test_save_in_a_transaction():
    Note.objects.create(text="saved")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "__init__.py").touch()
    (notes / "models.py").write_text(MODELS)
    (notes / "tests.py").write_text(TESTS)
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "test_notes.py").write_text(PYTEST_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = settings\n")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (["django", "test", "--pythonpath", ".", "--settings", "settings"], "Ran 2 tests"),
        (["pytest", "-q", "-p", "no:cacheprovider"], "2 passed"),
    ],
)
def test_pytest_plugin_lets_site_tests_pass_without_redis(
    project: Path, nothing_listens: str, command: list[str], outcome: str
) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and outcome in done.stdout + done.stderr, done.stdout + done.stderr
