"""`python manage.py announce "Lunch is ready"` shows a line on the open pages of all members."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from uvicorn.broadcast import publish
from uvicorn.errors import BroadcastUnavailable


class Command(BaseCommand):
    help = "Show a line on each front page that a logged-in user has open."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            publish("members", {"text": options["text"]})
        except BroadcastUnavailable as error:
            raise CommandError(f"not sent: {error}") from error
