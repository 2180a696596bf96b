"""Prepares a thread's database connections for the next request, event or task."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Final

from django.db import connections

logger = logging.getLogger("uvicorn.app")

# libpq's PQTRANS_ACTIVE, PQTRANS_INTRANS and PQTRANS_INERROR.
_UNFINISHED: Final = (1, 2, 3)


def opened() -> list[Any]:
    """Return all database connections of this thread."""
    try:
        return list(connections.all(initialized_only=True))
    except Exception:
        # The settings are invalid; a call that uses the database raises the same error.
        return []


def in_transaction(connection: Any) -> bool:
    driver = connection.connection
    if connection.in_atomic_block or driver is None:
        return bool(connection.in_atomic_block)
    return bool(connection.autocommit is False or _reports_transaction(driver))


def _reports_transaction(driver: Any) -> bool:
    try:
        status = getattr(getattr(driver, "info", None), "transaction_status", None)
        return status in _UNFINISHED or getattr(driver, "in_transaction", False) is True
    except Exception:
        # The connection is broken; the next call that uses it raises.
        return False


def clean_connections(closes: bool = False) -> bool:
    """Roll back open transactions. Close unusable connections, or all connections if `closes` is true.

    Return whether a transaction was rolled back on a connection with AUTOCOMMIT.
    """
    rolled_back = False
    for connection in opened():
        connection.queries_log.clear()
        left_open = in_transaction(connection)
        if closes and getattr(connection.connection, "_pool", None) is not None:
            # psycopg's pool would pass it on to another thread, with the iterator's cursor on it.
            connection.connection.close()
        if left_open and connection.settings_dict["AUTOCOMMIT"]:
            _drop(connection, "a transaction was left open and is rolled back")
            rolled_back = True
            continue
        try:
            if left_open:
                connection.rollback()
            connection.close_if_unusable_or_obsolete()
            if closes:
                connection.close()
        except BaseException as error:
            _drop(connection, repr(error))
    return rolled_back


def _drop(connection: Any, reason: str) -> None:
    logger.warning("database %r: %s; the connection is closed", connection.alias, reason)
    # Even SystemExit is suppressed: it would end the thread before its next call.
    with suppress(BaseException):
        connection.close()
    # Django does not reopen a wrapper that was closed in a transaction; the next call makes another one.
    del connections[connection.alias]
