"""Fixtures for a site's tests. Write `pytest_plugins = ["uvicorn.django.pytest_plugin"]` in `conftest.py`."""

from __future__ import annotations

import pytest

from uvicorn.broadcast.default_url import MEMORY, VARIABLE, named_url
from uvicorn.django import publishing
from uvicorn.types import Message

Published = list[tuple[str, Message]]


@pytest.fixture
def published_messages(monkeypatch: pytest.MonkeyPatch) -> Published:
    """Return the list of groups and messages that `publish_on_commit` sends."""
    if not named_url():
        monkeypatch.setenv(VARIABLE, MEMORY)
    published: Published = []
    publish = publishing.publish

    def record(group: str, message: Message) -> None:
        published.append((group, message))
        publish(group, message)

    monkeypatch.setattr(publishing, "publish", record)
    return published
