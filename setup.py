"""Package metadata; the tools are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "uvicorn" / "__init__.py").read_text())

CHECK = [
    "h11>=0.16",
    "hypothesis>=6.100",
    "pytest>=8",
    # A core for each half of the suite, and which lines it has run.
    "pytest-cov>=6",
    "pytest-xdist>=3",
    # Certificates for tests of TLS.
    "trustme>=1.1",
    # The second driver of broadcast, and how tests talk to the Redis servers that they start.
    "redis>=8",
    # Calls a Router in process, as tests of a site do.
    "httpx>=0.27",
    # What frames are compared with.
    "websockets>=17",
    # What the extra `standard` adds.
    "python-dotenv>=1",
    "PyYAML>=6",
    # What they complain about changes from one release to the next.
    "mypy==2.4.1",
    "ruff==0.17.5",
]

setup(
    name="uvicorn",
    version=version.group(1),
    description="An asyncio server, and a bridge between the synchronous and the asynchronous web",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["uvicorn", "uvicorn.*", "uvitools"]),
    package_data={"uvicorn": ["py.typed"], "uvitools": ["py.typed"]},
    install_requires=[
        # Broadcast's connections to Redis; its last release, and we reach into it.
        "asyncio_redis==0.16.0",
        # The command line.
        "click>=8.1",
        # Request heads; 0.8 is the first with an llhttp that has the fixes of 2025.
        "httptools>=0.8",
        # WebSocket handshakes, permessage-deflate's negotiation, and masking in C; 13 is the public release's oldest.
        "websockets>=13",
        # The debugger of --debug.
        "werkzeug>=2.3",
        # The event loop, where it exists.
        "uvloop>=0.21; sys_platform != 'win32' and platform_python_implementation != 'PyPy'",
    ],
    extras_require={
        # What frameworks ask for by this name: --env-file, --log-config with .yaml, and --reload by events.
        "standard": ["python-dotenv>=1", "PyYAML>=6", "watchfiles>=1"],
        # Broadcast by Redis Cluster and Sentinel, which asyncio_redis does not know. With hiredis, the event loop is
        # blocked for 0.1 ms instead of 3 ms while redis-py parses a CLUSTER SLOTS reply with 100 ranges.
        "redis": ["redis>=8", "hiredis>=3"],
        # What `make docs` builds the site with.
        "docs": ["sphinx>=8.1", "myst-parser>=4", "furo>=2024.8"],
        # What `make check` and `make quick` run, and the types that they need to see.
        "check": CHECK,
        "test": [
            *CHECK,
            "coverage>=7.9",
            "packaging",
            # Its parser reads our metrics.
            "prometheus_client>=0.21",
            # Drives a real browser, Debian's own chromium.
            "playwright>=1.40",
            # What the extras `redis` and `standard` add to those.
            "hiredis>=3",
            "watchfiles>=1",
            # Hosts; pyuwsgi is uWSGI as a wheel, which needs no compiler.
            "gunicorn>=23",
            # Another worker for gunicorn, which runs our server by the names of the public release.
            "uvicorn-worker>=0.3",
            "hypercorn>=0.17",
            "pyuwsgi>=2.0.28",
            "waitress>=3",
            # Frameworks whose applications are compared with what they answer elsewhere.
            "bottle>=0.13",
            "django>=5.2",
            "falcon>=4",
            "flask>=3",
            "pyramid>=2",
            # Packages with WebSocket code of their own; the client of Flask-SocketIO, with its transports.
            "flask-sock>=0.7",
            "flask-socketio>=5.5",
            "python-socketio>=5.12",
            "aiohttp>=3.12",
            "simple-websocket>=1.1",
            # What tests of Django's databases connect with, and its pool; and the runner of sites that they run.
            "psycopg[binary,pool]>=3.2",
            "pytest-django>=4.11",
            # Middleware that serves their static files.
            "whitenoise>=6",
            # ASGI frameworks for a smoke test on our server; channels for its consumers, python-multipart for forms.
            "blacksheep>=2.4",
            "channels>=4.2",
            "connexion>=3.2",
            "fastapi>=0.115",
            # The commands `fastapi run` and `fastapi dev`.
            "fastapi-cli>=0.0.8",
            "litestar>=2.14",
            "python-multipart>=0.0.18",
            "quart>=0.20",
            "sanic>=24.12",
            "starlette>=0.41",
        ],
    },
    entry_points={
        "console_scripts": ["uvicorn=uvicorn.cli:main"],
        # gunicorn -k egg:uvicorn#uvicorn
        "gunicorn.workers": ["uvicorn=uvicorn.workers:UvicornWorker"],
    },
)
