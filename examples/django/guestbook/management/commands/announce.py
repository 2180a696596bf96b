"""`python manage.py announce "Lunch is ready"` shows a line on every open page, whichever process serves it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from uvicorn.broadcast import publish
from uvicorn.errors import BroadcastUnavailable


class Command(BaseCommand):
    help = "Show a line on every open page of the guestbook."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            publish("news", {"text": options["text"]})
        except BroadcastUnavailable as error:
            raise CommandError(f"nobody was told: {error}") from error
