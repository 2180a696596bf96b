# The two commands of the README, and what contributors use besides.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000

.PHONY: help run test quick check coverage bench faults autobahn asgi-hosts programs docs clean

help:
	@echo "make run        serve the examples on http://$(HOST):$(PORT)/; HOST and PORT may be given"
	@echo "make test       everything that CI runs: check, and all tests"
	@echo "make check      formatting, lint, types, layers"
	@echo "make quick      the tests that run in process, in about a minute"
	@echo "make coverage   lines and branches that no test runs"
	@echo "make bench      all benchmarks, about an hour (bench/README.md); BENCH_OPTIONS="--rounds 1 --seconds 1": a third of it"
	@echo "make faults     measures what the requirements state in times and sizes"
	@echo "make autobahn   the Autobahn testsuite for WebSockets; needs a Python 2.7"
	@echo "make asgi-hosts the chat through ASGI3Adapter on other servers"
	@echo "make programs   streamlit, marimo, prefect and others with this package in place of the public one"
	@echo "make docs       the documentation as a site, build/docs/index.html, with its links checked"
	@echo "make clean      remove $(VENV) and everything else that these make"

run: $(VENV)/installed-run
	@echo "Serving examples/flask and examples/chat. Look at http://$(HOST):$(PORT)/ and press Ctrl-C to stop."
	@cd examples && exec "$(abspath $(VENV))/bin/uvicorn" showcase:app --host $(HOST) --port $(PORT)

test: $(VENV)/installed-test
	VENV="$(VENV)" scripts/check
	VENV="$(VENV)" scripts/test

check: $(VENV)/installed-check
	VENV="$(VENV)" scripts/check

quick: $(VENV)/installed-check
	VENV="$(VENV)" scripts/quick

coverage: $(VENV)/installed-test
	VENV="$(VENV)" scripts/coverage

bench: $(VENV)/installed
	$(VENV)/bin/python bench/protocol.py
	$(VENV)/bin/python bench/routing.py
	$(VENV)/bin/python bench/messages.py
	$(VENV)/bin/python bench/threads.py
	$(VENV)/bin/python bench/bridge.py
	$(VENV)/bin/python bench/hello.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/new_clients.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/frameworks.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/wsgi.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/adapters.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/meinheld.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/content.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/websocket.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/fanout.py $(BENCH_OPTIONS)
	$(VENV)/bin/python bench/broadcast.py $(BENCH_OPTIONS)

faults: $(VENV)/installed-test
	$(VENV)/bin/python scripts/faults

# Needs a Python 2.7 besides, which the suite is written for.
autobahn: $(VENV)/installed
	$(VENV)/bin/python scripts/autobahn

asgi-hosts: $(VENV)/installed
	$(VENV)/bin/python scripts/asgi-hosts

programs: $(VENV)/installed-check
	$(VENV)/bin/python scripts/programs

docs: $(VENV)/installed-docs
	$(VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -d build/doctrees -c docs . build/docs
	@echo '<meta http-equiv="refresh" content="0; url=README.html">' > build/docs/index.html
	@echo "Look at build/docs/index.html"

clean:
	rm -rf .venv* .autobahn build *.egg-info bench/.environments

# Debian's python3 without python3-venv makes no pip of its own; the one beside it can install into the environment.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("uvicorn needs Python 3.11 or newer, and $(PYTHON) is %d.%d: pass PYTHON=python3.13" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) and installing into it. This takes a minute or so, the first time."
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	{ rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip -q --python $(VENV)/bin/python install pip; }

$(VENV)/installed: $(VENV)/bin/python setup.py pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-run: $(VENV)/installed examples/flask/requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement examples/flask/requirements.txt
	@touch $@

$(VENV)/installed-check: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	scripts/install-test-tools
	@touch $@
