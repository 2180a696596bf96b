"""Applications that fork. Their response is the exit code of the child process."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.adapters import WSGIAdapter

Message = dict[str, Any]
Channels = dict[str, Any]


def fork() -> int:
    """`os.fork`, without Python's warning about threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def come_back(how: str) -> None:
    """Return the exit code of a child process."""
    if how == "exit":
        sys.exit(5)
    if how == "exit-with-a-word":
        sys.exit("a word")
    if how == "raise":
        raise ValueError("the child's")


def exit_code_of(child: int) -> bytes:
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    content = b""
    if environ["QUERY_STRING"]:
        child = fork()
        if child == 0:
            come_back(environ["QUERY_STRING"])
        else:
            content = exit_code_of(child)
    start_response("200 OK", [])
    return [content]


def consumer(message: Message) -> None:
    content = b""
    if message["query_string"]:
        child = fork()
        if child == 0:
            come_back(message["query_string"].decode())
        else:
            content = exit_code_of(child)
    message["reply_channel"].send({"status": 200, "content": content})


async def channels(message: Message, channels: Channels) -> None:
    content = b""
    if message["query_string"]:
        if message["path"] == "/late":
            await asyncio.sleep(0)
        child = fork()
        if child == 0:
            come_back(message["query_string"].decode())
        content = await asyncio.to_thread(exit_code_of, child)
    await channels["reply"].send({"status": 200, "content": content})


consumer_on_a_host = WSGIAdapter(consumer)
channels_on_a_host = WSGIAdapter(channels)
