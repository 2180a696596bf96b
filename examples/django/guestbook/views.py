"""The pages of the guestbook."""

import csv
from itertools import chain

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.forms import modelform_factory
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from guestbook.models import Entry

EntryForm = modelform_factory(Entry, fields=["name", "text", "file"])


async def index(request: HttpRequest) -> HttpResponse:
    """The newest entries and a form; Django keeps an upload of more than 2.5 MB on disk while it arrives."""
    form = EntryForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        await sync_to_async(form.save)()
        messages.success(request, "Your entry has been added.")
        return redirect("index")
    entries = [entry async for entry in Entry.objects.all()[:50]]
    user = await request.auser()
    return render(request, "guestbook/index.html", {"form": form, "entries": entries, "user": user})


async def recent(request: HttpRequest) -> JsonResponse:
    """The newest entries, for programs."""
    entries = [{"name": entry.name, "text": entry.text} async for entry in Entry.objects.all()[:10]]
    return JsonResponse({"entries": entries})


def download(request: HttpRequest, pk: int) -> FileResponse:
    """An attachment, so that no browser takes what a stranger has uploaded for a page of this site."""
    entry = get_object_or_404(Entry, pk=pk)
    if not entry.file:
        raise Http404("this entry has no file")
    return FileResponse(entry.file.open(), as_attachment=True)


def export(request: HttpRequest) -> StreamingHttpResponse:
    """Every entry, a line at a time as the database gives them: a slow client slows the query."""
    writer = csv.writer(Line())
    rows = Entry.objects.values_list("id", "name", "text").iterator()
    lines = map(writer.writerow, chain([("id", "name", "text")], rows))
    return StreamingHttpResponse(
        lines, content_type="text/csv", headers={"Content-Disposition": "attachment; filename=entries.csv"}
    )


class Line:
    """A file for `csv.writer`, whose `writerow` then returns the line."""

    def write(self, text: str) -> str:
        return text
