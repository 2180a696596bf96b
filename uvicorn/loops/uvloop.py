"""The loop factory of `--loop uvloop`."""

from uvicorn.loops import named_factory

uvloop_loop_factory = named_factory("uvloop")
