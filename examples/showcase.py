"""What `make run` serves: the Flask site, and the chat beside it under /chat."""

import sys
from pathlib import Path

from flask import render_template_string
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from uvicorn import Route, Router

# Each example stands alone in its folder; this brings two of them together.
examples = Path(__file__).parent
sys.path += [str(examples / "flask"), str(examples / "chat")]

from app import chat_server, homepage  # noqa: E402
from frontpage import app as flask_app  # noqa: E402
from mixed import app as site  # noqa: E402

flask_app.config["CHAT"] = "/chat"

# A page of the site around the body of the chat's page.
CHAT_PAGE = """
{% extends "base.html" %}
{% block title %}Chat{% endblock %}
{% block main %}{{ chat }}{% endblock %}
"""


@flask_app.get("/chat")
def chat() -> ResponseReturnValue:
    _, _, body = homepage.decode().partition("<body>")
    return render_template_string(CHAT_PAGE, chat=Markup(body.partition("</body>")[0]))


app = Router(Route("/chat", chat_server, protocol="websocket"), default=site)
