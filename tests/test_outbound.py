"""Which hosts the platform calls for whom."""

import socket

import pytest

from cupola.outbound import Policy, Refused, is_public, names


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False), ("127.8.8.8", False), ("0.0.0.0", False), ("10.0.0.1", False), ("172.20.1.1", False), ("192.168.0.1", False),
        ("100.64.0.1", False), ("169.254.169.254", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:93.184.215.14", True), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
        ("not an address", False),
    ],
)  # fmt: skip
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_an_address_of_this_machine_is_not_public() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: the kernel only chooses the address that it would send from.
            probe.connect(("93.184.215.14", 9))
        except OSError:
            pytest.skip("this machine has no route to the internet")
        assert not is_public(probe.getsockname()[0])


def test_others_reach_only_what_is_public_or_named() -> None:
    with pytest.raises(
        Refused,
        match=r"localhost is at .*, which is no public address: an operator can add localhost to outbound\.allow",
    ):
        Policy().resolve("localhost", 80)
    assert Policy(anywhere=True).resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert Policy(allow=["localhost"]).resolve("localhost", 80)
    assert Policy(allow=["127.0.0.0/8"]).resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert Policy().resolve("93.184.215.14", 80) == ["93.184.215.14"]


@pytest.mark.parametrize(
    ("entry", "host", "port", "named"),
    [
        ("Mirror.example", "mirror.EXAMPLE", 80, True), ("mirror.example:80", "mirror.example", 80, True),
        ("mirror.example:81", "mirror.example", 80, False), ("example", "mirror.example", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True), ("10.0.0.0/8", "11.1.2.3", 80, False), ("10.1.2.3", "10.1.2.3", None, True),
        ("[fd00::1]:443", "fd00::1", 443, True), ("fd00::/8", "[fd00::1]", 443, True), ("", "x", 1, False),
    ],
)  # fmt: skip
def test_how_hosts_are_named(entry: str, host: str, port: int | None, named: bool) -> None:
    assert names([entry], host, port) is named


def test_names_below_localhost_are_this_machine() -> None:
    """Also where the machine's resolver does not know them."""
    assert set(Policy(anywhere=True).resolve("sample.apps.localhost", 80)) <= {"127.0.0.1", "::1"}
    with pytest.raises(Refused):
        Policy().resolve("sample.apps.localhost", 80)
