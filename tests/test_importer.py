"""What `module:attribute` leads to, and what is said when it leads nowhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Loaded before any test, whose modules are forgotten with all that they have loaded.
import uvicorn.adapters
import uvicorn.interfaces.detect
import uvicorn.routing  # noqa: F401
from uvicorn.errors import ImportFromStringError
from uvicorn.importer import import_application, import_from_string

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into a folder of its own, from which modules are imported; they are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write_module(name: str, source: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")

    yield write_module
    for name in set(sys.modules) - known:
        del sys.modules[name]


def complaint(source: str) -> str:
    """What is said about `source`, which leads nowhere."""
    with pytest.raises(ImportFromStringError) as caught:
        import_application(source)
    return str(caught.value)


# What leads somewhere


def test_importer_finds_an_attribute_of_a_module(write: Write) -> None:
    write("shop.py", "def serve(): ...")
    assert import_application("shop:serve").__name__ == "serve"


def test_importer_finds_an_attribute_of_a_module_in_a_package(write: Write) -> None:
    write("mall/__init__.py", "")
    write("mall/shop.py", "def serve(): ...")
    assert import_application("mall.shop:serve").__name__ == "serve"


def test_importer_finds_a_nested_attribute(write: Write) -> None:
    write("shop.py", "class Till:\n    def serve(self): ...\n\ntill = Till()")
    assert import_application("shop:till.serve").__name__ == "serve"


def test_module_name_without_an_attribute_imports_the_attribute_application(write: Write) -> None:
    write("shop.py", "application = 1\napp = 2")
    assert import_application("shop") == 1


def test_module_name_without_an_attribute_imports_app_if_application_is_missing(write: Write) -> None:
    write("shop.py", "app = 2")
    assert import_application("shop") == 2


# Of a module with both, application and app

CHANNELS_APP = "async def NAME(message, channels): ...\n"
WSGI_APP = "def NAME(environ, start_response): return []\n"
ADAPTERS = "from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter\n"

INFO_LINE = "'shop' has 'application' and 'app': serving 'application'; to serve 'app', write 'shop:app'"


@pytest.mark.parametrize(
    ("inner", "application", "served"),
    [
        pytest.param(CHANNELS_APP, "application = WSGIAdapter(app)", "app", id="WSGIAdapter"),
        pytest.param(CHANNELS_APP, "application = ASGI3Adapter(app)", "app", id="ASGI3Adapter"),
        pytest.param(WSGI_APP, "application = ASGIAdapter(app)", "app", id="ASGIAdapter"),
        pytest.param(WSGI_APP, "application = WSGIAdapter(ASGIAdapter(app))", "app", id="two adapters"),
    ],
)
def test_importer_prefers_app_to_an_adapter_with_the_name_application(
    inner: str, application: str, served: str, write: Write
) -> None:
    write("shop.py", ADAPTERS + inner.replace("NAME", "app") + application)
    assert import_application("shop") is getattr(sys.modules["shop"], served)


def test_importer_prefers_application_to_an_adapter_with_the_name_app(write: Write) -> None:
    write("shop.py", ADAPTERS + WSGI_APP.replace("NAME", "application") + "app = ASGI3Adapter(application)")
    assert import_application("shop") is sys.modules["shop"].application


def test_error_for_two_applications_of_different_kinds_names_both_attributes(write: Write) -> None:
    write("shop.py", WSGI_APP.replace("NAME", "application") + CHANNELS_APP.replace("NAME", "app"))
    assert complaint("shop") == (
        "cannot import 'shop': module 'shop' has 'application' (wsgi) and 'app' (channels), which are different "
        "applications; choose 'shop:application' or 'shop:app'"
    )


ROUTER_OF_APP = (
    "from uvicorn import Mount, Route, Router, Shift, WSGIAdapter\n"
    "from uvicorn.broadcast import BroadcastMiddleware\n"
    "def pages(environ, start_response): ...\n"
    "async def live(message, channels): ...\n"
)


@pytest.mark.parametrize(
    ("names", "served"),
    [
        ("app = pages; application = Router(Route('/live', live), default=pages)", "application"),
        ("application = pages; app = Router(Mount('/old', Router(default=pages)), default=live)", "app"),
        ("app = Router(default=pages); application = WSGIAdapter(app)", "app"),
        ("application = pages; app = BroadcastMiddleware(Router(default=pages))", "app"),
        ("application = pages; app = Shift(pages, live)", "app"),
        ("app = pages; application = Router(Route('/live', Shift(pages, live)))", "application"),
    ],
)
def test_M35_importer_chooses_the_router_that_contains_the_second_application(
    write: Write, names: str, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    write("shop.py", ROUTER_OF_APP + names)
    with caplog.at_level(logging.INFO):
        found = import_from_string("shop")
    assert found is getattr(sys.modules["shop"], served)
    assert len(caplog.records) == 1 and repr(served) in caplog.text


def test_M35_module_with_a_router_and_an_unrelated_application_is_rejected(write: Write) -> None:
    write("shop.py", ROUTER_OF_APP + "app = pages; application = Router(default=live)")
    assert "'application' (router) and 'app' (wsgi), which are different applications" in complaint("shop")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            CHANNELS_APP.replace("NAME", "application") + CHANNELS_APP.replace("NAME", "app"), id="of the same kind"
        ),
        pytest.param(
            CHANNELS_APP.replace("NAME", "app")
            + "class Middleware:\n def __init__(self, app): self.inner = app\n"
            + " def __call__(self, environ, start_response): ...\n"
            + "application = Middleware(app)",
            id="an object around app",
        ),
        pytest.param(
            CHANNELS_APP.replace("NAME", "app")
            + "def wrap(app):\n def wrapped(environ, start_response): app\n return wrapped\n"
            + "application = wrap(app)",
            id="a closure around app",
        ),
        pytest.param(
            ADAPTERS
            + CHANNELS_APP.replace("NAME", "app")
            + "bridge = WSGIAdapter(app)\ndef application(environ, start_response): return bridge()",
            id="a function that uses an adapter",
        ),
        pytest.param(
            WSGI_APP.replace("NAME", "application") + "class Queue: ...\napp = Queue()", id="app is no application"
        ),
    ],
)
def test_importer_logs_one_line_if_it_prefers_application_to_app(
    source: str, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    write("shop.py", source)
    assert import_application("shop") is sys.modules["shop"].application
    assert caplog.messages == [INFO_LINE]


def test_importer_logs_nothing_if_application_and_app_are_the_same_object(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    write("shop.py", WSGI_APP.replace("NAME", "application") + "app = application")
    import_application("shop")
    assert caplog.messages == []


def test_trailing_colon_after_a_module_name_is_ignored(write: Write) -> None:
    write("shop.py", "app = 2")
    assert import_application("shop:") == 2


# What is no module:attribute at all


@pytest.mark.parametrize("source", ["", ":app", "-x", "shop..main:app", "1shop:app"])
def test_error_for_a_malformed_module_name_shows_a_valid_module_name(source: str) -> None:
    assert complaint(source) == f"cannot import {source!r}: expected 'module:attribute', such as 'app:hello_world'"


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("shop/main:app", "shop.main:app"),
        ("./shop/main.py:app", "shop.main:app"),
        ("shop/main", "shop.main"),
        ("./shop", "shop"),
        ("shop.py", "shop"),
    ],
)
def test_error_for_a_path_suggests_the_module_name(source: str, meant: str) -> None:
    kind = "file" if ".py" in source else "path"
    assert complaint(source).endswith(f": expected 'module:attribute', got a {kind}; did you mean {meant!r}?")


# No such module


def test_error_for_a_missing_module_names_the_searched_folder(write: Write, tmp_path: Path) -> None:
    assert f"no module 'shop' in {tmp_path}" in complaint("shop:serve")


def test_error_for_a_misspelled_module_suggests_the_right_module(write: Write) -> None:
    write("shop.py", "")
    assert complaint("shp:serve").endswith("did you mean 'shop'?")


def test_error_for_a_missing_module_lists_the_modules(write: Write) -> None:
    write("warehouse.py", "")
    write("mall/__init__.py", "")
    write("notes.txt", "")
    write("data/numbers.csv", "")
    write("not-a-module.py", "")
    assert complaint("zzz:serve").endswith("; it has mall, warehouse")


def test_error_for_a_missing_module_in_an_empty_folder_suggests_app_dir(write: Write) -> None:
    assert complaint("shop:serve").endswith("; to import from another folder, pass --app-dir")


def test_error_for_a_missing_module_in_a_missing_folder_suggests_app_dir(write: Write, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path / "nowhere"))
    assert complaint("shop:serve").endswith("; to import from another folder, pass --app-dir")


def test_error_for_a_missing_module_lists_at_most_ten_modules(write: Write) -> None:
    for number in range(12):
        write(f"warehouse_{number:02}.py", "")
    assert complaint("zzz:serve").endswith("warehouse_09, ...")


def test_error_for_a_missing_submodule_lists_the_modules_of_the_package(write: Write) -> None:
    write("mall/__init__.py", "")
    write("mall/warehouse.py", "")
    assert "no module 'zzz' in package 'mall'; it has warehouse" in complaint("mall.zzz:serve")


def test_error_for_a_module_of_a_missing_package_names_the_package(write: Write) -> None:
    assert "no module 'mall' in" in complaint("mall.shop:serve")


def test_error_for_a_file_name_suggests_the_module_name(write: Write) -> None:
    write("shop.py", "def app(): ...")
    assert "did you mean 'shop'" in complaint("shop.py")


# No such attribute


def test_error_for_a_missing_attribute_names_the_module(write: Write) -> None:
    write("shop.py", "")
    assert "module 'shop' has no 'serve'" in complaint("shop:serve")


def test_error_for_a_misspelled_attribute_suggests_the_right_attribute(write: Write) -> None:
    write("shop.py", "def serve(): ...")
    assert complaint("shop:sreve").endswith("did you mean 'serve'?")


def test_error_for_a_missing_attribute_lists_the_applications_of_the_module(write: Write) -> None:
    write("shop.py", "import os\nfrom json import dumps\nprice = 3\ndef _private(): ...\ndef serve(): ...")
    assert complaint("shop:zzz").endswith("; it has serve")


def test_error_for_a_misspelled_variable_suggests_the_right_variable(write: Write) -> None:
    write("framework.py", "class Framework:\n    def __call__(self): ...")
    write("shop.py", "from framework import Framework\nserve = Framework()")
    assert complaint("shop:sreve").endswith("did you mean 'serve'?")


def test_error_for_a_missing_attribute_of_an_object_names_the_class_of_the_object(write: Write) -> None:
    write("shop.py", "class Till: ...\n\ntill = Till()")
    assert "Till has no 'serve'" in complaint("shop:till.serve")


def test_error_for_a_missing_attribute_of_an_int_names_the_type_int(write: Write) -> None:
    write("shop.py", "till = 3")
    assert "int has no 'serve'" in complaint("shop:till.serve")


def test_error_for_a_module_without_an_application_names_the_expected_attributes(write: Write) -> None:
    write("shop.py", "def serve(): ...")
    assert complaint("shop").endswith(
        "module 'shop' has no 'application' or 'app'; it has serve; choose one, as in 'shop:serve'"
    )


# A module that fails


def test_error_for_a_failing_module_names_the_module_and_its_exception(write: Write) -> None:
    write("shop.py", "raise RuntimeError('no stock')")
    assert complaint("shop:serve") == "cannot import 'shop:serve': module 'shop' fails with RuntimeError: no stock"


def test_error_for_a_failing_module_has_its_exception_as_the_cause(write: Write) -> None:
    write("shop.py", "raise RuntimeError('no stock')")
    with pytest.raises(ImportFromStringError) as caught:
        import_application("shop:serve")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_error_for_a_failing_module_has_only_the_first_line_of_its_exception(write: Write) -> None:
    write("shop.py", "raise RuntimeError('no stock\\nand no staff')")
    assert "\n" not in complaint("shop:serve")


def test_error_for_a_module_with_a_missing_import_names_the_missing_module(write: Write) -> None:
    write("shop.py", "import warehouse_that_is_missing")
    assert complaint("shop:serve").endswith(
        "module 'shop' needs 'warehouse_that_is_missing', which is not installed",
    )


def test_error_for_a_module_with_a_missing_import_has_ModuleNotFoundError_as_cause(write: Write) -> None:
    write("shop.py", "import warehouse_that_is_missing")
    with pytest.raises(ImportFromStringError) as caught:
        import_application("shop:serve")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_error_for_a_missing_module_has_no_cause(write: Write) -> None:
    with pytest.raises(ImportFromStringError) as caught:
        import_application("shop:serve")
    assert caught.value.__cause__ is None


def test_error_for_a_module_that_raises_ModuleNotFoundError_keeps_the_message(write: Write) -> None:
    write("shop.py", "raise ModuleNotFoundError('install the warehouse first')")
    assert "install the warehouse first" in complaint("shop:serve")


def test_error_for_a_package_with_a_missing_import_names_the_missing_module(write: Write) -> None:
    write("mall/__init__.py", "import mall.cellar")
    write("mall/shop.py", "")
    assert "needs 'mall.cellar'" in complaint("mall.shop:serve")


# What other programs call


def test_import_from_string_raises_the_original_exception_of_a_failing_module(write: Write) -> None:
    write("shop.py", "1 / 0")
    with pytest.raises(ZeroDivisionError) as caught:
        import_from_string("shop:app")
    assert caught.value.__suppress_context__


def test_missing_module_raises_ImportFromStringError(write: Write) -> None:
    with pytest.raises(ImportFromStringError, match="no module 'shop'"):
        import_from_string("shop:app")
