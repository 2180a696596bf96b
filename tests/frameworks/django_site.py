"""The site in Django, with its admin, on a database in memory."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import django
from django import forms
from django.conf import settings
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from tests.frameworks import BIG, COOKIES, FILE, PAGE, broken_pieces, digest, environ_of, pieces, told

_DATABASE: Final = "file:django_site?mode=memory&cache=shared"
_MODELS: Final = ("admin", "auth", "contenttypes", "sessions", "messages")

# Threads have connections of their own; the database is gone with the last one.
_kept_open: Final = sqlite3.connect(_DATABASE, uri=True, check_same_thread=False)

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[f"django.contrib.{name}" for name in _MODELS],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _DATABASE, "OPTIONS": {"uri": True}}},
    # Tables are made from the models at once, which takes a tenth of the time.
    MIGRATION_MODULES=dict.fromkeys(_MODELS),
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    # Not in a cookie, whose signature has the time in it.
    MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
    STATIC_URL="/static/",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path, re_path  # noqa: E402


class UploadForm(forms.Form):  # type: ignore[misc]
    """The form of a page with a file input."""

    note = forms.CharField()
    file = forms.FileField()


def page(request: Any) -> HttpResponse:
    return HttpResponse(PAGE)


def away(request: Any) -> HttpResponse:
    return HttpResponseRedirect("/show/ü/a b")


def show(request: Any, rest: str) -> HttpResponse:
    return HttpResponse(told(request.method, rest, request.path, request.build_absolute_uri(), request.GET.urlencode()))


def environ(request: Any) -> HttpResponse:
    return HttpResponse(environ_of(request.META))


def cookies(request: Any) -> HttpResponse:
    response = HttpResponse(told(sorted(request.COOKIES.items())))
    for name, value in COOKIES:
        response.set_cookie(name, value, max_age=None, httponly=True, samesite="Lax")
    return response


def form(request: Any) -> HttpResponse:
    return HttpResponse(told(sorted(request.POST.lists())))


def upload(request: Any) -> HttpResponse:
    """A view with CSRF protection: GET returns the token that POST needs."""
    if request.method != "POST":
        return HttpResponse(get_token(request))
    filled = UploadForm(request.POST, request.FILES)
    if not filled.is_valid():
        return HttpResponse(filled.errors.as_json(), status=422)
    file = filled.cleaned_data["file"]
    return HttpResponse(told(file.name, file.content_type, digest(file.read()), filled.cleaned_data["note"]))


def raw(request: Any) -> HttpResponse:
    return HttpResponse(digest(request.body))


def json(request: Any) -> HttpResponse:
    import json

    return JsonResponse({"got": json.loads(request.body)})


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces(), content_type="text/plain")


def fail(request: Any) -> HttpResponse:
    raise ValueError("fail")


def fail_midway(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(broken_pieces())


def nothing(request: Any) -> HttpResponse:
    return HttpResponse(status=204)


def file(request: Any) -> FileResponse:
    return FileResponse(open(FILE, "rb"), content_type="text/x-python")


def big(request: Any) -> HttpResponse:
    return HttpResponse(BIG)


urlpatterns = [
    path("", require_safe(page)),
    path("redirect", require_safe(away)),
    re_path("^show/(?P<rest>.*)$", require_safe(show)),
    path("environ", csrf_exempt(environ)),
    path("cookies", require_safe(cookies)),
    path("form", csrf_exempt(require_POST(form))),
    path("upload", upload),
    path("raw", csrf_exempt(require_POST(raw))),
    path("json", csrf_exempt(require_POST(json))),
    path("stream", require_safe(stream)),
    path("fail", require_safe(fail)),
    path("fail-midway", require_safe(fail_midway)),
    path("nothing", require_safe(nothing)),
    path("file", require_safe(file)),
    path("big", require_safe(big)),
    path("admin/", admin.site.urls),
]

call_command("migrate", run_syncdb=True, verbosity=0)
# The salt is shown on a page.
User.objects.create(username="root", password=make_password("secret", "salt"), is_staff=True, is_superuser=True)

app = get_wsgi_application()
