"""The type of an exception shows whose fault it is."""

from __future__ import annotations

import asyncio

import pytest

from uvicorn.errors import (
    ApplicationError,
    ChannelClosed,
    ClientDisconnected,
    ConfigError,
    ImportFromStringError,
    InterfaceError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    StartupError,
    UvicornError,
    exc_info_of,
)


@pytest.mark.parametrize("kind", [ConfigError, StartupError, ProtocolError, ClientDisconnected])
def test_every_public_error_is_a_subclass_of_UvicornError(kind: type[Exception]) -> None:
    assert issubclass(kind, UvicornError)


@pytest.mark.parametrize("kind", [ImportFromStringError, InterfaceError])
def test_ImportFromStringError_and_InterfaceError_are_subclasses_of_ConfigError(kind: type[Exception]) -> None:
    assert issubclass(kind, ConfigError)


@pytest.mark.parametrize("kind", [StartupError, ProtocolError, ClientDisconnected])
def test_StartupError_and_ProtocolError_and_ClientDisconnected_are_no_ConfigError(kind: type[Exception]) -> None:
    assert not issubclass(kind, ConfigError)


def test_LocalProtocolError_is_not_a_subclass_of_RemoteProtocolError() -> None:
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_RemoteProtocolError_has_status_400_by_default() -> None:
    assert RemoteProtocolError("malformed").status_hint == 400


def test_RemoteProtocolError_may_have_a_status_other_than_400() -> None:
    assert RemoteProtocolError("too long", 414).status_hint == 414


def test_except_clause_for_Exception_does_not_catch_ChannelClosed() -> None:
    assert not issubclass(ChannelClosed, Exception)


def test_task_that_raises_ChannelClosed_counts_as_cancelled() -> None:
    async def handler() -> None:
        raise ChannelClosed("the client has disconnected")

    async def main() -> bool:
        task = asyncio.create_task(handler())
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_log_of_an_application_error_shows_the_original_traceback() -> None:
    try:
        raise TimeoutError("of the application")
    except TimeoutError as error:
        cause = error
    ours = ApplicationError("the application raised TimeoutError")
    ours.__cause__ = cause
    kind, logged, trace = exc_info_of(ours) or (None, None, None)
    assert (kind, logged) == (TimeoutError, cause)
    assert trace is not None and trace.tb_frame.f_code.co_filename == __file__


def test_log_of_an_application_error_has_a_traceback_only_if_the_error_has_a_cause() -> None:
    assert exc_info_of(ApplicationError("mistake")) is None
