from typing import Any, ClassVar

from uvicorn.workers import UvicornWorker


class Mounted(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "asyncio",
        "http": "httptools",
        "ws": "auto",
        "root_path": "/mounted",
        "server_header": False,
    }


class Making(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"factory": True}


class Mistaken(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"root_pth": "/mounted"}


class Onuvloop(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "uvloop"}


class Onasyncio(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio"}


class WithPathsend(UvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"pathsend": True}
