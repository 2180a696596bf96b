"""Every rule that is cited by its id is defined in docs/rules.md, once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "docs" / "rules.md"

#: Where ids are cited, if it is there.
PLACES: Final = ("uvicorn", "tests", "bench", "scripts", "faults", "docs", "SECURITY.md", "CONTRIBUTING.md")
SUFFIXES: Final = frozenset(("", ".py", ".md"))

_ID: Final = r"A10\.[0-9]{1,2}|[A-FMPRSW][0-9]{1,2}[a-c]?"
# A percent-encoded or escaped byte, a decimal, part of a name: not ids. In the name of a test it stands behind `test_`.
_CITED: Final = re.compile(rf"(?:\bdef test_({_ID})_)|(?<![\w%\\.#$&=+/-])({_ID})(?![\w%=+]|\.[0-9])")
# Bytes in hexadecimal, as in a dump: "00 A1 B2".
_DUMP: Final = re.compile(r"(?:\b[0-9A-F]{2} ){2,}[0-9A-F]{2}\b")
_CASE: Final = re.compile(r'^@case\("([^"]+)"', re.MULTILINE)


def files() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            # `make bench` leaves environments, and a program, in a hidden folder.
            hidden = any(part.startswith(".") for part in file.relative_to(ROOT).parts)
            if file.is_file() and not hidden and file.suffix in SUFFIXES and file not in (RULES, Path(__file__)):
                yield file


def cited(text: str) -> set[str]:
    """Ids in `text`."""
    return {first or second for first, second in _CITED.findall(_DUMP.sub("", text))}


def defined(text: str) -> dict[str, Counter[str]]:
    """Ids, and how often each is defined, in each of the page's sections that has a table of rules."""
    sections: dict[str, Counter[str]] = {}
    for section in text.split("\n## ")[1:]:
        title, _, content = section.partition("\n")
        rows = re.findall(r"^\| ([^|]+) \|", content, re.MULTILINE)
        if title != "How to read an id":
            sections[title] = Counter(name for row in rows[1:] for name in row.split(", "))
    return sections


def rules(sections: dict[str, Counter[str]], in_broadcast: bool) -> Counter[str]:
    """The ids that a file may cite: the letter B has a meaning of its own where the path contains `broadcast`."""
    hidden = {"Fault cases", "Output" if in_broadcast else "Broadcast"}
    return sum((ids for title, ids in sections.items() if title not in hidden), Counter[str]())


def undefined(path: str, text: str, sections: dict[str, Counter[str]]) -> list[str]:
    """Ids that are cited in `text` and mean nothing there."""
    known = set(rules(sections, "broadcast" in path))
    if path.startswith(("faults/", "scripts/fault")):
        known |= set(sections["Fault cases"])
    # `broadcast B10` is that rule in any file.
    text = re.sub(rf"\bbroadcast ({'|'.join(sections['Broadcast'])})\b", "", text)
    return sorted(cited(text) - known)


SECTIONS: Final = defined(RULES.read_text(encoding="utf-8"))


def test_every_cited_rule_is_defined() -> None:
    found = {
        path: ids
        for file in files()
        if (ids := undefined(path := file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"), SECTIONS))
    }
    assert found == {}


def test_no_rule_is_defined_twice() -> None:
    for in_broadcast in (False, True):
        assert [name for name, count in rules(SECTIONS, in_broadcast).items() if count > 1] == []


def test_table_of_fault_cases_lists_exactly_the_cases_in_the_tests() -> None:
    cases = Counter(name for file in files() for name in _CASE.findall(file.read_text(encoding="utf-8")))
    assert cases == SECTIONS["Fault cases"]


def test_rule_ids_are_found_in_a_test_name_and_a_docstring_and_a_comment() -> None:
    assert cited('def test_D16_reset() -> None:\n    """Rule R17, and A10.14."""  # B17b') == {
        "D16", "R17", "A10.14", "B17b",
    }  # fmt: skip


def test_percent_escapes_and_section_numbers_do_not_count_as_rule_ids() -> None:
    assert cited(r'def test_6_3_x(): "/caf%C3%A9", b"\xA1", x.B2, -O2, E501, 00 A1 B2, HTTP/1.0') == set()


def test_rule_checker_reports_an_undefined_rule_id() -> None:
    assert undefined("uvicorn/x.py", "rules R1 and R99", SECTIONS) == ["R99"]


def test_rule_checker_requires_the_word_broadcast_before_a_broadcast_rule_id() -> None:
    assert undefined("uvicorn/broadcast/x.py", "B1, B17", SECTIONS) == []
    assert undefined("uvicorn/server/x.py", "B1, B17, and broadcast B10", SECTIONS) == ["B17"]
