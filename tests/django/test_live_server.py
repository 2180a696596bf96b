"""`LiveServerTestCase` in the tests of a site, run by `manage.py test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SITE = """
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from uvicorn import Route, Router
from uvicorn.django import DjangoThreads

async def echo(message, channels):
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})

async def count(message, channels):
    await channels["reply"].send({"status": 200, "content": b"%d users" % await User.objects.acount()})

application = Router(
    Route("/echo", echo, protocol="websocket"),
    Route("/count", DjangoThreads(count)),
    Route("/async/*", DjangoThreads(get_asgi_application())),
    default=get_wsgi_application(),
)
"""

URLS = """
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path

def names(request):
    return HttpResponse(" ".join(User.objects.values_list("username", flat=True)))

async def anames(request):
    return HttpResponse(" ".join([user.username async for user in User.objects.all()]))

urlpatterns = [path("admin/", admin.site.urls), path("names", names), path("async/names", anames)]
"""

TESTS = """
from urllib.request import urlopen

from django.contrib.auth.models import User
from uvicorn.django.test import LiveServerTestCase
from websockets.sync.client import connect


class SiteTest(LiveServerTestCase):
    def get(self, path):
        with urlopen(self.live_server_url + path) as response:
            return response.read().decode()

    def test_rows_of_the_test_are_seen_by_every_kind_of_application(self):
        User.objects.create(username="ada")
        self.assertEqual([self.get(path) for path in ("/names", "/async/names", "/count")], ["ada", "ada", "1 users"])

    def test_rows_of_the_test_before_are_gone(self):
        self.assertEqual([self.get("/names"), self.get("/count")], ["", "0 users"])

    def test_websockets(self):
        with connect(self.live_server_url.replace("http", "ws") + "/echo") as websocket:
            websocket.send("hello")
            self.assertEqual(websocket.recv(), "hello")

    def test_static_files(self):
        self.assertIn("--primary", self.get("/static/admin/css/base.css"))
"""


def test_django_live_server_serves_the_routes_websockets_and_static_files(tmp_path: Path) -> None:
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    subprocess.run([sys.executable, "-m", "django", "startproject", "project", str(tmp_path)], check=True, env=environ)
    settings = tmp_path / "project" / "settings.py"
    settings.write_text(f"{settings.read_text()}\nUVICORN_APPLICATION = 'project.site:application'\n")
    (tmp_path / "project" / "site.py").write_text(SITE)
    (tmp_path / "project" / "urls.py").write_text(URLS)
    (tmp_path / "project" / "tests.py").write_text(TESTS)
    command = [sys.executable, "-W", "error::ResourceWarning", "manage.py", "test"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, "Ran 4 tests" in result.stderr) == (0, True), result.stderr
