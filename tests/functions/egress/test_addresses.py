"""Which addresses are public, which may be named, and the spellings of one."""

from __future__ import annotations

import pytest

from microcosmos.functions.egress.addresses import canonical, is_nameable, is_public, kind_of

NOT_PUBLIC = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.1.2.3", "127.255.255.255", "::1"],
    "private": [
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("fc00::1", "fd12:3456::1", "fdff::1"),
    ],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "link-local": ["169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "febf::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"],
    "site-local": ["fec0::1", "feff::1"],
    "protocol": ["192.0.0.8", "192.0.0.192", "2001::1", "2001:0:53aa:64c::1", "2001:20::1"],
    "documentation": [
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    ],
    "benchmarking": ["198.18.0.1", "198.19.255.255"],
    "6to4": ["192.88.99.1", "2002:7f00:1::", "2002:a00:1::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": [
        *("240.0.0.1", "255.255.255.255", "::7f00:1", "::ffff:0:7f00:1", "100::1", "4000::1"),
        *("5f00::1", "1::1"),
    ],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:fffe::a00:1"],
    "unknown": ["nonsense", "", "127.0.0.1:80", "1.2.3", "0x7f.1"],
}
# Of these, who was allowed one by name may reach it.
NAMEABLE = ("loopback", "private", "shared")


@pytest.mark.parametrize(
    ("address", "kind"), [(one, kind) for kind, all_of in NOT_PUBLIC.items() for one in all_of]
)
def test_an_address_that_is_not_of_the_internet(address: str, kind: str) -> None:
    assert kind_of(address) == kind
    assert not is_public(address)
    assert is_nameable(address) is (kind in NAMEABLE)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"),
        *("169.253.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "128.0.0.1"),
        *("2606:4700::1111", "2001:4860:4860::8888", "2003::1", "2a00::1"),
    ],
)
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(address)
    assert is_nameable(address)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("0xa9.0xfe.0xa9.0xfe", "169.254.169.254"),
        ("010.0.0.1", "8.0.0.1"),
        ("4294967295", "255.255.255.255"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::FFFF:127.0.0.1", "::ffff:7f00:1"),
        ("example.org", "example.org"),
        ("1.example.org.", "1.example.org."),
    ],
)
def test_an_address_has_one_spelling(written: str, address: str) -> None:
    assert canonical(written) == address


@pytest.mark.parametrize(
    "written",
    [
        "256.0.0.1",
        "4294967296",
        "1.2.3.4.5",
        "1..2",
        "09.0.0.1",
        "a.1",
        "1.16777216",
        "::1%lo",
        "::g",
    ],
)
def test_what_ends_in_a_number_and_is_no_address(written: str) -> None:
    if written == "::1%lo":
        assert "%" in canonical(written)
        return
    with pytest.raises(ValueError, match=r".+"):
        canonical(written)
