"""The guestbook's own paths."""

from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.index, name="index"),
    path("recent", views.recent, name="recent"),
    path("entries.csv", views.export, name="export"),
    path("entries/<int:pk>/file", views.download, name="download"),
]
