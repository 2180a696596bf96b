"""The flags that users of the public index's `uvicorn` 0.54 type, and the page that lists ours."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import uvicorn
from tests.flag_table import page, refused
from uvicorn.cli import command

#: What `uvicorn --help` of release 0.54 lists.
KNOWN = """
    --host --port --uds --fd --reload --reload-dir --reload-include --reload-exclude --reload-delay --workers --loop
    --http --http2 --ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout --ws-per-message-deflate
    --lifespan --interface --env-file --log-config --log-level --access-log --no-access-log --use-colors --no-use-colors
    --proxy-headers --no-proxy-headers --server-header --no-server-header --date-header --no-date-header
    --forwarded-allow-ips --root-path --limit-concurrency --backlog --limit-max-requests --limit-max-requests-jitter
    --timeout-keep-alive --timeout-graceful-shutdown --timeout-worker-healthcheck --ssl-keyfile --ssl-certfile
    --ssl-keyfile-password --ssl-version --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers --header --version --app-dir
    --h11-max-incomplete-event-size --reset-contextvars --factory --help
""".split()


@pytest.mark.parametrize("flag", KNOWN)
def test_each_flag_of_the_public_release_is_accepted_or_explained(flag: str) -> None:
    context = click.Context(command)
    options = {
        name: option
        for option in command.get_params(context)
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    assert options[flag].help or refused()[flag]


def test_unsupported_flag_is_rejected_with_the_reason() -> None:
    with pytest.raises(click.UsageError, match="--http2: "):
        command.main(["app:app", "--http2"], standalone_mode=False)


def test_command_line_page_is_up_to_date() -> None:
    file = Path(uvicorn.__file__).parents[1] / "docs" / "command-line.md"
    assert file.read_text() == page(), "run: python -m tests.flag_table > docs/command-line.md"
