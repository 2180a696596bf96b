"""Messages to groups that are sent when what they report is in the database."""

from __future__ import annotations

import logging
from typing import Final

from django.db import transaction

from uvicorn.broadcast.default_url import MEMORY, named_url
from uvicorn.broadcast.encoding import encode, group_name
from uvicorn.broadcast.hub_registry import running_hub
from uvicorn.broadcast.log_limit import LogLimit
from uvicorn.broadcast.publisher import publish as publish
from uvicorn.errors import BroadcastUnavailable
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

_lost: Final = LogLimit()


def publish_on_commit(group: str, message: Message, using: str | None = None) -> None:
    """Send `message` to all members of `group` when the transaction of the database `using` has been committed.

    At once if there is no transaction; never if it is rolled back. A message that cannot be sent is one line in the
    log, not the failure of what has been saved. To be called where the database may be used: in views, signal
    receivers, commands; from a coroutine by `sync_to_async`.

    Raises LocalProtocolError for a message that cannot be sent.
    """
    # Here, and not in the middle of a commit.
    group_name(group)
    encode(message)
    # The caller may go on with its own.
    copy = dict(message)

    def send() -> None:
        try:
            publish(group, copy)
        except BroadcastUnavailable as error:
            _log(group, error)

    transaction.on_commit(send, using=using, robust=True)


def _log(group: str, error: BroadcastUnavailable) -> None:
    if error.reported:
        # By the outage that it is part of.
        return
    if named_url().startswith(MEMORY) and running_hub(None) is None:
        # Tests, and commands of a site of one process: there is no client.
        logger.debug("group %r: no client is connected to this process", group)
    elif count := _lost.admits():
        logger.warning("group %r: %d messages not sent after a commit: %s", group, count, error)
