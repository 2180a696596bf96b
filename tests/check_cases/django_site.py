"""A mounted Django site whose settings force its script name."""

from django.conf import settings

settings.configure(
    INSTALLED_APPS=["uvicorn.django"], FORCE_SCRIPT_NAME="/old", UVICORN_APPLICATION="django_site.application"
)

from django.core.wsgi import get_wsgi_application  # noqa: E402

from uvicorn import Mount, Router  # noqa: E402

application = Router(Mount("/new", get_wsgi_application()))
