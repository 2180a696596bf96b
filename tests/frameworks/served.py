"""The site of the framework in FRAMEWORK, wrapped for each kind of host."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from uvicorn.adapters import ASGIAdapter, WSGIAdapter

bare = import_module(f"tests.frameworks.{os.environ['FRAMEWORK']}_site").app

_adapter = ASGIAdapter(bare)


async def below_channels(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """A channels application that passes every request to the site."""
    await _adapter(message, channels)


async def _shutdown() -> None:
    await _adapter.shutdown()


below_channels.shutdown = _shutdown  # type: ignore[attr-defined]

double = WSGIAdapter(ASGIAdapter(bare))
