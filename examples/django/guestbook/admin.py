"""What the admin shows of it."""

from django.contrib import admin

from guestbook.models import Entry


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    list_display = ["name", "text", "file", "created"]
    search_fields = ["name", "text"]
