"""What a thread does to its connections before they are another owner's."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from django.db import connections

logger = logging.getLogger("uvicorn.app")


def opened() -> list[Any]:
    """The connections of this thread, and those that have been closed."""
    try:
        opened: list[Any] = connections.all(initialized_only=True)
    except Exception:
        # The settings cannot be used, as the call finds for itself.
        return []
    return opened


def in_transaction(connection: Any) -> bool:
    """Whether a transaction is open, which `close_if_unusable_or_obsolete` would end."""
    is_open = connection.connection is not None
    return bool(connection.in_atomic_block or (is_open and connection.autocommit is False))


def clean_connections(closes: bool = False) -> bool:
    """Have this thread's connections ready for another owner: none broken, none too old, none in a transaction.

    With `closes` none is kept: rows are left to be read on them. Returns whether a transaction has been rolled back.
    """
    rolled_back = False
    for connection in opened():
        connection.queries_log.clear()
        if in_transaction(connection) and connection.settings_dict["AUTOCOMMIT"]:
            _drop(connection, "a transaction was left open; it is rolled back")
            rolled_back = True
            continue
        try:
            if in_transaction(connection):
                connection.rollback()
            connection.close_if_unusable_or_obsolete()
            if closes:
                connection.close()
        except BaseException as error:
            _drop(connection, repr(error))
    return rolled_back


def _drop(connection: Any, reason: str) -> None:
    """Close `connection` with whatever it is in the middle of."""
    logger.warning("database %r: %s; its connection is closed", connection.alias, reason)
    # Whatever it is: the call that comes next would never be made.
    with suppress(BaseException):
        connection.close()
    # The wrapper is never used again after it was closed in a transaction.
    del connections[connection.alias]
