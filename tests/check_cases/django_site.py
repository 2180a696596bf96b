"""A mounted Django site; its settings force the script name that the variable FORCED has."""

import os

from django.conf import settings

settings.configure(
    INSTALLED_APPS=["uvicorn.django"],
    FORCE_SCRIPT_NAME=os.environ.get("FORCED"),
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": 60}},
    UVICORN_APPLICATION="django_site.application",
)

from django.core.wsgi import get_wsgi_application  # noqa: E402

from uvicorn import Mount, Route, Router  # noqa: E402


async def live(message, channels):
    raise NotImplementedError


application = Router(Mount("/new", get_wsgi_application()), Route("/live", live))
