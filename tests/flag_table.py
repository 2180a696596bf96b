"""The table of docs/command-line.md: `python -m tests.flag_table > docs/command-line.md` regenerates it."""

from __future__ import annotations

import sys

import click

from uvicorn.cli import command
from uvicorn.other_servers import REFUSED

HEAD = """\
# The command line

Every option is also a keyword of `uvicorn.run` and `uvicorn.Config`, and an environment variable. This file is
generated from the options by `python -m tests.flag_table > docs/command-line.md`.
"""


def page() -> str:
    """Return the whole file."""
    context = click.Context(command, info_name="uvicorn", auto_envvar_prefix="UVICORN", max_content_width=1000)
    sections: dict[str, list[str]] = {}
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        record = option.get_help_record(context)
        assert record is not None
        flags, text = (part.replace("|", "\\|") for part in record)
        text = " ".join(text.split())
        variable = f"`UVICORN_{(option.name or '').upper()}`"
        shown = variable if option.allow_from_autoenv else ""
        sections.setdefault(getattr(option, "group", "Other"), []).append(f"| `{flags}` | {text} | {shown} |")
    lines = [HEAD]
    for group, rows in sections.items():
        lines += [f"## {group}", "", "| option | | environment |", "|---|---|---|", *rows, ""]
    lines += [
        "## Unsupported",
        "",
        "Options of other servers that are rejected with a reason.",
        "",
        "| option | reason |",
        "|---|---|",
    ]
    lines += [f"| `{option}` | {reason} |" for option, reason in refused().items()]
    return "\n".join(lines) + "\n"


def refused() -> dict[str, str]:
    """Options of other servers that are rejected with a reason."""
    return {
        option.opts[0]: REFUSED[option.name or ""]
        for option in command.params
        if isinstance(option, click.Option) and option.hidden
    }


if __name__ == "__main__":
    sys.stdout.write(page())
