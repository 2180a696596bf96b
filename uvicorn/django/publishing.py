"""`publish_on_commit` sends broadcast messages after a transaction is committed."""

from __future__ import annotations

import logging
from typing import Final

from django.db import transaction

from uvicorn.broadcast.default_url import MEMORY, named_url
from uvicorn.broadcast.encoding import encode, group_name
from uvicorn.broadcast.hub import running_hub
from uvicorn.broadcast.publisher import publish as publish
from uvicorn.errors import BroadcastUnavailable
from uvicorn.log_limit import LogLimit
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

_lost: Final = LogLimit()


def publish_on_commit(group: str, message: Message, using: str | None = None) -> None:
    """Send `message` to `group` after the current transaction commits.

    `using` is the database's alias. Without a transaction, the message is sent immediately. After a rollback, the
    message is dropped. An outage of the broadcast backend is logged. Coroutines need `sync_to_async`.

    Raises LocalProtocolError for an invalid group name or message.
    """
    # Checked here, because an exception after the commit would come too late.
    group_name(group)
    encode(message)
    # The caller may change its dictionary before the commit.
    copy = dict(message)

    def send() -> None:
        try:
            publish(group, copy)
        except BroadcastUnavailable as error:
            if error.reported:
                # The backend has already logged the outage.
                return
            if named_url().startswith(MEMORY) and running_hub(None) is None:
                # A test, or a command of a site that runs as one process.
                logger.debug("group %r: message dropped: no client is connected to this process", group)
            elif count := _lost.admits():
                logger.warning("group %r: %d messages were not sent after a commit: %s", group, count, error)

    transaction.on_commit(send, using=using, robust=True)
