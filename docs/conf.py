"""The site that `make docs` builds: the pages of the repository as they are, with their links checked."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "uvicorn"
copyright = "the authors of uvicorn"
release = re.search(r'__version__ = "(.+)"', (ROOT / "uvicorn" / "__init__.py").read_text())[1]
version = release

# The source folder is the repository, so that links from one page to another, and to files, are those of the pages.
root_doc = "docs/contents"
include_patterns = ["*.md", "docs/**", "bench/README.md", "examples/**/README.md"]
exclude_patterns = ["**/.*", "build", "*.egg-info", "tests", "uvicorn", "uvitools", "scripts", "faults"]
extensions = ["myst_parser"]
# Anchors are GitHub's, which tests/test_docs.py has too.
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"uvicorn {release}"
html_copy_source = False
html_show_sphinx = False
# Examples show shell output and fragments, which are not always in the language of their block.
suppress_warnings = ["misc.highlighting_failure"]
