"""Redis servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .redis_servers import RedisServer, cluster_of_three, running, watched_pair


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis server for all tests that do not change the server."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The cluster for all tests that do not change the cluster."""
    with cluster_of_three(tmp_path_factory.mktemp("cluster")) as servers:
        yield f"redis+cluster://127.0.0.1:{servers[0].port}"


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The master, replica and sentinel for all tests that do not change these servers."""
    with watched_pair(tmp_path_factory.mktemp("pair")) as (_, _, sentinel):
        yield f"redis+sentinel://127.0.0.1:{sentinel.port}/chat"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server for one test. The test may kill, halt or configure the server."""
    with running(RedisServer(tmp_path)) as server:
        yield server
