"""The loop factory of `--loop auto`."""

from uvicorn.loops import named_factory

auto_loop_factory = named_factory("auto")
