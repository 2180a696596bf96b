"""Which path is answered by what."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("guestbook.urls")),
    # Styles of the site and of the admin, on any server. Nothing unless DEBUG: then `manage.py collectstatic` gathers
    # them in a folder that a web server or a CDN can serve better.
    *staticfiles_urlpatterns(),
]
