"""An ordinary Flask site, the front page of the project: `uvicorn frontpage:app` in this folder."""

import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flask import Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

app = Flask(__name__)
# It signs the cookie that flash() needs. Everybody can read it here, so a site of your own needs one of its own.
app.secret_key = "for this example only"

#: The newest first, in the memory of this process.
notes: deque[str] = deque(maxlen=20)


@app.get("/")
def index() -> ResponseReturnValue:
    mixed = Path(app.root_path, "mixed.py").read_text()
    thread = threading.current_thread().name
    return render_template("index.html", mixed=mixed, thread=thread, environ=request.environ)


@app.route("/notes", methods=["GET", "POST"])
def show_notes() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("notes.html", notes=notes.copy())
    text = request.form["text"].strip()[:200]
    if text:
        notes.appendleft(text)
        flash("Your note has been added.")
    else:
        flash("There was nothing to add.")
    return redirect(url_for("show_notes"), 303)


@app.route("/upload", methods=["GET", "POST"])
def upload() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("upload.html")
    file = request.files["file"]
    size, sha256 = digest(file.stream)
    return render_template("upload.html", name=file.filename, size=size, sha256=sha256)


@app.put("/upload")
def upload_raw() -> ResponseReturnValue:
    """For `curl -T`: read while it arrives, so it takes no memory and no disk, however long it is."""
    size, sha256 = digest(request.stream)
    return {"size": size, "sha256": sha256}


@app.get("/squares.csv")
def squares() -> ResponseReturnValue:
    """A slow client slows the generator; when it has gone, the generator is closed."""

    def lines() -> Iterator[str]:
        yield "number,square\r\n"
        for number in range(1, 50_001):
            yield f"{number},{number * number}\r\n"

    return lines(), {"content-type": "text/csv", "content-disposition": "attachment; filename=squares.csv"}


@app.errorhandler(404)
def not_found(error: Exception) -> ResponseReturnValue:
    return render_template("not_found.html"), 404


def digest(stream: IO[bytes]) -> tuple[int, str]:
    """Size and sha256 of what can be read from `stream`, 64 KiB at a time."""
    size, sha256 = 0, hashlib.sha256()
    while piece := stream.read(65536):
        size += len(piece)
        sha256.update(piece)
    return size, sha256.hexdigest()
