"""Links, anchors, examples and options on the Markdown pages are right, and docs/index.md lists every page."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Final

import click
import pytest

import uvicorn
from tests.test_layers import COMPOSITION, GROUND, LAYERS
from uvicorn.cli import command
from uvicorn.other_servers import REFUSED

ROOT: Final = Path(uvicorn.__file__).parents[1]
DOCS: Final = ROOT / "docs"
# Environments and caches have names that begin with a dot; to walk through them takes seconds.
PAGES: Final = sorted(
    page
    for entry in ROOT.iterdir()
    if not entry.name.startswith(".")
    for page in ([entry] if entry.suffix == ".md" else entry.rglob("*.md"))
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
USER_PAGES: Final = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]

FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HUNK: Final = re.compile(r"^(@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@).*\n((?:(?!@@).*\n)*)", re.MULTILINE)
HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def links(text: str) -> list[str]:
    """Targets of the links of a page, without those in code."""
    return LINK.findall(re.sub(r"`[^`\n]*`", "code", FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (unique := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(unique)
    return found


def miscounted(diff: str) -> list[str]:
    """Return the headers of the hunks whose numbers of lines are wrong. git ignores lines beyond these numbers."""
    found = []
    for file in re.split(r"^--- .*\n\+\+\+ .*\n", diff, flags=re.MULTILINE):
        for header, old, new, lines in HUNK.findall(file):
            marks = [line[:1] for line in lines.splitlines()]
            if (len(marks) - marks.count("+"), len(marks) - marks.count("-")) != (int(old or 1), int(new or 1)):
                found.append(header)
    return found


def options() -> set[str]:
    """Every option of the command, except those that it refuses."""
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in REFUSED
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


def test_link_checker_reports_a_link_to_a_missing_file_or_heading(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`!\n[a](page.md#one-two) [b](#three) [`c`](gone.md) `[d](code.md)` [e](https://x.example)\n"
    )
    assert broken_links(page) == ["#three", "gone.md"]


def test_anchor_of_a_repeated_heading_has_a_number() -> None:
    assert anchors("# A\n## A\n```\n# code\n```\n") == {"a", "a-1"}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name_of)
def test_index_page_lists_every_page_of_docs(page: Path) -> None:
    assert page.name == "index.md" or page.name in links((DOCS / "index.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name_of)
def test_contents_page_lists_every_page_of_docs(page: Path) -> None:
    lines = (DOCS / "contents.rst").read_text(encoding="utf-8").splitlines()
    assert lines.count(f"   /docs/{page.stem}") == 1


def test_comparison_page_has_the_correct_number_of_required_packages() -> None:
    needed = [name for name in metadata.requires("uvicorn") or [] if "extra ==" not in name]
    assert f"\n| packages that it needs | {len(needed)} |" in (DOCS / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", USER_PAGES, ids=name_of)
def test_python_examples_of_a_page_compile(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_line_counts_in_the_diffs_of_a_page_are_correct(page: Path) -> None:
    diffs = [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language == "diff"]
    assert [header for diff in diffs for header in miscounted(diff)] == []


@pytest.mark.parametrize(
    ("header", "is_right"), [("1,2 +1,3", True), ("1,2 +1,2", False), ("1,3 +1,3", False), ("1 +1,3", False)]
)
def test_diff_checker_reports_a_wrong_line_count(header: str, is_right: bool) -> None:
    first = f"--- a/one\n+++ b/one\n@@ -{header} @@ def f():\n one\n-two\n+three\n+four\n"
    second = "--- a/two\n+++ b/two\n@@ -1 +1 @@\n-x\n+y\n"
    assert miscounted(first + second) == ([] if is_right else [f"@@ -{header} @@"])


@pytest.mark.parametrize("page", USER_PAGES, ids=name_of)
def test_options_in_documented_uvicorn_commands_exist(page: Path) -> None:
    used = set()
    for code in blocks(page, "shell"):
        for line in code.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and (words[0] == "uvicorn" or words[0].startswith("UVICORN_")):
                used |= {word for word in words if OPTION.fullmatch(word)}
    assert used <= options()


def test_every_option_named_on_the_limits_page_exists() -> None:
    named = set(OPTION.findall((DOCS / "limits.md").read_text(encoding="utf-8")))
    assert named <= options()


def layers_of_the_architecture_page() -> dict[str, frozenset[str]]:
    """Layer to the layers that it may import from, as the table of docs/architecture.md has them."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("\n## Layers\n")[2].partition("\n## ")[0]
    found: dict[str, frozenset[str]] = {}
    for name, contents, imports in re.findall(r"^\| (\S+) \| (.+) \| (.+) \|$", table, re.MULTILINE):
        if name in ("Layer", "---"):
            continue
        is_group = name in ("ground", "composition")
        members = re.findall(r"`(\w+)/?`", contents) if is_group else [name.strip("`/")]
        words = {word.strip("`") for word in imports.split(", ")}
        found |= dict.fromkeys(members, frozenset((words - {"ground"}) | (GROUND if "ground" in words else set())))
    return found


def test_layers_on_the_architecture_page_match_the_layers_in_the_tests() -> None:
    page = layers_of_the_architecture_page()
    assert {name for name, allowed in page.items() if "any layer" in allowed} == COMPOSITION
    layers = {name: allowed for name, allowed in page.items() if name not in COMPOSITION}
    assert {name: allowed - {name} for name, allowed in layers.items()} == {
        name: allowed - {name} for name, allowed in LAYERS.items()
    }
