"""Syslog messages as their receivers read them."""

import pytest

from cupola.logs.envelope import Envelope
from cupola.logs.syslog import framed, messages

AT = 1_767_323_045_123_456_789
TAGS = {"source_type": "APP/PROC/WEB", "organization_name": "My Org", "space_name": "dev", "app_name": "a_b.c"}


def test_a_line() -> None:
    envelope = Envelope(AT, "guid", "1", TAGS, b"hel\x00lo")
    (message,) = messages(envelope)
    tags = '[tags@47450 app_name="a_b.c" organization_name="My Org" source_type="APP/PROC/WEB" space_name="dev"]'
    head = "<14>1 2026-01-02T03:04:05.123456+00:00 My-Org.dev.abc guid [APP/PROC/WEB/1] -"
    assert message.decode() == f"{head} {tags} hello\n"
    assert messages(envelope, metadata=False) == [f"{head} - hello\n".encode()]
    assert framed(b"abc\n") == b"4 abc\n"


def test_what_was_written_to_stderr_is_an_error() -> None:
    (message,) = messages(Envelope(AT, "guid", "0", {"source_type": "cell"}, b"x", "ERR"))
    assert message.startswith(b"<11>1 2026-01-02T03:04:05.123456+00:00 - guid [CELL/0] - ")


def test_nothing_breaks_out_of_its_field() -> None:
    tags = {"app_name": "x" * 100 + "\n<1>", 'k]"= \n': 'v"]\\', "source_type": "A B"}
    (message,) = messages(Envelope(AT, "g" * 100, "", tags, b"\xff text"))
    text = message.decode("latin-1")
    assert text.split(" ")[2:6] == ["x" * 63, "g" * 48, "[A-B]", "-"]
    assert r'k="v\"\]\\"' in text
    assert text.endswith("\xff text\n")
    assert text.count("\n") == 1 + ("\n" in tags["app_name"])


@pytest.mark.parametrize(
    ("envelope", "elements"),
    [
        (
            Envelope(AT, "g", "0", {}, gauge={"cpu": (0.25, "percentage"), "memory": (12345678.0, "bytes")}),
            [
                '[gauge@47450 name="cpu" unit="percentage" value="0.25"]',
                '[gauge@47450 name="memory" unit="bytes" value="12345678.0"]',
            ],
        ),
        (Envelope(AT, "g", "0", {}, counter=("hits", 2, 9)), ['[counter@47450 delta="2" name="hits" total="9"]']),
        (Envelope(AT, "g", "0", {}, timer=("http", 1, 5)), ['[timer@47450 name="http" start="1" stop="5"]']),
    ],
)
def test_metrics_are_structured_data(envelope: Envelope, elements: list[str]) -> None:
    assert [message.decode().partition(" - ")[2].partition(" - ")[2] for message in messages(envelope)] == [
        f"{element} \n" for element in elements
    ]
