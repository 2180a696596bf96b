"""What every open page is told at once."""

import logging

from uvicorn.broadcast import publish
from uvicorn.errors import BroadcastUnavailable

logger = logging.getLogger(__name__)


def tell(text: str) -> None:
    """Show a line on every open page. That it could not be shown is no reason to fail whoever has something to tell."""
    try:
        publish("news", {"text": text})
    except BroadcastUnavailable as error:
        logger.info("pages were not told %r: %s", text, error)
