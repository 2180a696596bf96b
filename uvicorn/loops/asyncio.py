"""The loop factory of `--loop asyncio`."""

from uvicorn.loops import named_factory

asyncio_loop_factory = named_factory("asyncio")
