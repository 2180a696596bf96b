"""The format of log lines about clients, their escapes, and the limit on their number."""

from __future__ import annotations

import logging
import string

import pytest

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.server.access_log import ClientWarnings, log_exchange, peer_name, printable

CLIENT = ("192.0.2.7", 51234)
PRINTABLE = set(string.printable) - set("\t\n\r\x0b\x0c")


def access_line(
    caplog: pytest.LogCaptureFixture,
    raw_path: bytes = b"/",
    query_string: bytes = b"",
    client: tuple[str, int] | None = CLIENT,
) -> str:
    """Return the access line of a response."""
    target = raw_path + b"?" + query_string if query_string else raw_path
    exchange = HTTPExchange(HTTPGateway(), Endpoint(client=client), "GET", target, "1.1", ((), ()), False)
    exchange.status = 200
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        log_exchange(exchange, 1234, 0.0056, "")
    [record] = caplog.records
    return record.getMessage()


def test_access_line_contains_client_and_request_and_status_and_size_and_duration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert access_line(caplog, b"/shop/tea%20pot") == '192.0.2.7:51234 - "GET /shop/tea%20pot HTTP/1.1" 200 1234 5.6ms'


def test_access_line_has_logger_uvicorn_access_and_level_INFO(caplog: pytest.LogCaptureFixture) -> None:
    access_line(caplog)
    assert [(record.name, record.levelname) for record in caplog.records] == [("uvicorn.access", "INFO")]


def test_access_log_record_has_the_attributes_size_and_duration(caplog: pytest.LogCaptureFixture) -> None:
    access_line(caplog)
    assert vars(caplog.records[0])["size"] == 1234
    assert vars(caplog.records[0])["duration"] == pytest.approx(5.6)


def test_access_log_record_has_the_five_arguments_that_an_access_formatter_expects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    access_line(caplog)
    assert caplog.records[0].args == ("192.0.2.7:51234", "GET", "/", "1.1", 200)


def test_access_line_has_the_query_string(caplog: pytest.LogCaptureFixture) -> None:
    assert '"GET /shop?page=2 HTTP/1.1"' in access_line(caplog, b"/shop", b"page=2")


def test_access_line_shows_a_client_on_a_unix_socket_as_a_local_client(caplog: pytest.LogCaptureFixture) -> None:
    assert access_line(caplog, client=None).startswith("a local client - ")


def test_peer_name_of_an_ipv4_client_is_host_and_port() -> None:
    assert peer_name(CLIENT) == "192.0.2.7:51234"


def test_peer_name_of_an_ipv6_client_has_the_host_in_brackets() -> None:
    assert peer_name(("2001:db8::7", 51234)) == "[2001:db8::7]:51234"


# Escapes


def test_plain_text_is_logged_unchanged() -> None:
    assert printable("/shop?page=2&q=%41~") == "/shop?page=2&q=%41~"


def test_B4_every_octet_is_logged_as_printable_ascii() -> None:
    assert set(printable(bytes(range(256)))) <= PRINTABLE


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(b"\r\n", r"\x0d\x0a"), (b"\x1b[31m", r"\x1b[31m"), (b"\0", r"\x00"), (b"\x7f", r"\x7f"), (b"\t", r"\x09")],
)
def test_B4_control_octets_are_escaped_in_log_text(octets: bytes, shown: str) -> None:
    assert printable(b"/" + octets) == "/" + shown


def test_B4_octets_outside_ascii_are_escaped_in_log_text() -> None:
    assert printable(b"/\xe9\xff") == r"/\xe9\xff"


def test_B4_non_ascii_text_is_logged_as_escaped_utf_8_octets() -> None:
    assert printable("/\u00e9\u202e") == r"/\xc3\xa9\xe2\x80\xae"


def test_B4_lone_surrogate_is_logged_as_printable_ascii() -> None:
    assert set(printable("/\ud800")) <= PRINTABLE


def test_B4_line_break_in_a_path_does_not_begin_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    line = access_line(caplog, b'/\r\n192.0.2.9:1 - "GET /forged HTTP/1.1" 200', b"\r\n\x1b[2J")
    assert set(line) <= PRINTABLE


def test_B4_percent_sign_in_a_path_is_not_a_format_directive(caplog: pytest.LogCaptureFixture) -> None:
    assert "/%s%d%n" in access_line(caplog, b"/%s%d%n")


def test_B4_long_path_is_truncated_in_the_access_line(caplog: pytest.LogCaptureFixture) -> None:
    assert len(access_line(caplog, b"/" + b"x" * 100_000, b"y" * 100_000)) < 1100


def test_B4_log_text_above_1000_octets_is_truncated_with_three_dots() -> None:
    assert printable(b"x" * 1001) == "x" * 1000 + "..."


def test_B4_log_text_of_1000_octets_is_not_truncated() -> None:
    assert printable(b"x" * 1000) == "x" * 1000


# Storms


def test_warning_about_a_client_names_the_client(caplog: pytest.LogCaptureFixture) -> None:
    ClientWarnings().warn(CLIENT, "refused: malformed head (400)")
    assert caplog.messages == ["192.0.2.7:51234 refused: malformed head (400)"]


def test_B4_ten_thousand_warnings_in_a_second_cause_ten_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ClientWarnings()
    for _ in range(10_000):
        warnings.warn(CLIENT, "refused")
    assert len(caplog.messages) == 10


def test_B4_suppressed_warnings_are_counted_in_a_log_line_at_the_next_clock_tick(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = ClientWarnings()
    for _ in range(10_000):
        warnings.warn(CLIENT, "refused")
    warnings.tick()
    assert caplog.messages[10:] == ["suppressed 9990 more warnings about clients within a second"]


def test_B4_second_clock_tick_does_not_log_suppressed_warnings_again(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ClientWarnings()
    for _ in range(11):
        warnings.warn(CLIENT, "refused")
    warnings.tick()
    warnings.tick()
    assert len(caplog.messages) == 11


def test_B4_ten_warnings_and_one_summary_are_logged_each_second(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ClientWarnings()
    for _ in range(3):
        for _ in range(100):
            warnings.warn(CLIENT, "refused")
        warnings.tick()
    assert len(caplog.messages) == 3 * (10 + 1)


def test_ten_warnings_in_a_second_cause_no_summary_line(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ClientWarnings()
    for _ in range(10):
        warnings.warn(CLIENT, "refused")
    warnings.tick()
    assert len(caplog.messages) == 10
