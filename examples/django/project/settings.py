"""Settings of the example, for your own machine only."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
# Where the database and the uploads are.
DATA_DIR = Path(os.environ.get("EXAMPLE_DATA", BASE_DIR))

# Everybody can read this key, and DEBUG tells whoever asks what has gone wrong: a site that others reach needs a key of
# its own, DEBUG = False and ALLOWED_HOSTS. See https://docs.djangoproject.com/en/stable/howto/deployment/checklist/
SECRET_KEY = "django-insecure: for this example only, and known to everybody"
DEBUG = True

INSTALLED_APPS = [
    "uvicorn.django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "guestbook",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
UVICORN_APPLICATION = "project.asgi.app"

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MEDIA_ROOT = DATA_DIR / "uploads"
STATIC_URL = "static/"

TIME_ZONE = "UTC"
