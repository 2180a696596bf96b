"""What `make run` serves: the Flask site, and the chat beside it under /chat."""

import sys
from pathlib import Path

from uvicorn import Route, Router

# Each example stands alone in its folder; this brings two of them together.
examples = Path(__file__).parent
sys.path += [str(examples / "flask"), str(examples / "chat")]

from app import chat_server  # noqa: E402
from frontpage import app as flask_app  # noqa: E402
from mixed import app as site  # noqa: E402

flask_app.config["CHAT"] = "/chat"

app = Router(Route("/chat", chat_server), default=site)
