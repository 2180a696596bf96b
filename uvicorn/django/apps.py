"""The Django application `uvicorn.django`, for INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register


class UvicornConfig(AppConfig):
    name = "uvicorn.django"
    # The default label would be `django`.
    label = "uvicorn_django"

    def ready(self) -> None:
        from uvicorn.django.checks import check_application, check_installed_apps

        register(check_installed_apps)
        register(check_application)
