"""What INSTALLED_APPS finds."""

from django.apps import AppConfig


class GuestbookConfig(AppConfig):
    name = "guestbook"
