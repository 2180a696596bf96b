"""What the database keeps."""

from django.db import models
from uvicorn.django import publish_on_commit


class Entry(models.Model):
    name = models.CharField(max_length=80)
    text = models.CharField(max_length=500)
    file = models.FileField(blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"

    def save(self, *args, **kwargs):
        super().save(*args, **kwargs)
        publish_on_commit("members", {"text": str(self)})

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"
