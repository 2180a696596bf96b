"""What INSTALLED_APPS finds."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register


class UvicornConfig(AppConfig):
    """Has the system checks run."""

    name = "uvicorn.django"
    # `django` would be the framework's own.
    label = "uvicorn_django"

    def ready(self) -> None:
        from uvicorn.django.checks import check_application

        register(check_application)
