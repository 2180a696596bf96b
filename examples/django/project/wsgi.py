"""The site for any WSGI server: `uvicorn project.wsgi:application`, or gunicorn with the same argument."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_wsgi_application()
