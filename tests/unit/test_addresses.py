"""A server added at run time must have a public address, however the URL is written."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.addresses import check_public_url, system_resolve
from ilaas.core.errors import InvalidRequest

PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # metadata of most clouds
    "168.63.129.16",  # Azure
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "3fff::1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
    "100::1",
]


def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError("an address, or a wrong form, must not be resolved")


def check(url: str, *addresses: str, allow_private: bool = False) -> None:
    check_public_url(url, allow_private=allow_private, resolve=(lambda host, port: addresses) if addresses else never)


def refusal(url: str, *addresses: str, allow_private: bool = False) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check(url, *addresses, allow_private=allow_private)
    assert caught.value.param == "url"
    return caught.value.message


@pytest.mark.parametrize(
    "url", ["https://gpu.example.fr", "http://gpu.example.fr:8000/base/", "https://GPU.example.fr."]
)
def test_a_name_with_public_addresses_passes(url: str) -> None:
    check(url, *PUBLIC)


@pytest.mark.parametrize("url", ["http://93.184.216.34:8000", "https://[2606:2800:220:1:248:1893:25c8:1946]/"])
def test_a_public_address_passes_without_being_resolved(url: str) -> None:
    check(url)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert "not public" in refusal(f"http://{host}:8000")


@pytest.mark.parametrize("address", [*PRIVATE, "fe80::1%eth0"])
def test_a_name_with_one_address_that_is_not_public_is_refused(address: str) -> None:
    assert "not public" in refusal("http://gpu.example.fr", PUBLIC[0], address)


@pytest.mark.parametrize(
    "host",
    [
        "0x7f000001",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "0x7f.1",
        "127.0.0.1.",
        "1.2.3.4.5",
    ],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_other_ways_to_write_an_ipv4_address_are_refused(host: str, *, allow_private: bool) -> None:
    assert "is a number" in refusal(f"http://{host}/", "127.0.0.1", allow_private=allow_private)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu.example.fr",
        "//gpu.example.fr",
        "ftp://gpu.example.fr",
        "file:///etc/passwd",
        "unix:/run/x.sock",
        "http://",
        "http://:80",
        "http://gpu.example.fr:0",
        "http://gpu.example.fr:99999",
        "http://gpu.example.fr:http",
        "http://[::1",
        "http://[::1%25eth0]",
        "http://[127.0.0.1]",
        "http://gpu..fr",
        "http://-gpu.fr",
        "http://gpu.example.fr\\@127.0.0.1",
        "http://gpu.example.fr\n.evil.fr",
        "http://gpu example.fr",
        "http://\uff11\uff12\uff17.0.0.1",
        "http://gpu.example.fr%2f@x",
        "http://127.0.0.1%2f.example.fr",
    ],
)
def test_what_is_no_plain_url_of_a_server_is_refused(url: str) -> None:
    refusal(url, *PUBLIC)
    refusal(url, allow_private=True)


@pytest.mark.parametrize("url", ["https://me:s3cret@gpu.example.fr", "https://s3cret@gpu.example.fr", "https://@x.fr"])
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    message = refusal(url, *PUBLIC)
    assert "token" in message
    assert "s3cret" not in message


def test_a_name_that_does_not_resolve_is_refused() -> None:
    def fails(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    with pytest.raises(InvalidRequest, match="does not resolve"):
        check_public_url("https://gone.example.fr", allow_private=False, resolve=fails)
    with pytest.raises(InvalidRequest, match="does not resolve"):
        check_public_url("https://gone.example.fr", allow_private=False, resolve=lambda host, port: [])


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]", "10.0.0.5", "gpu.internal"])
def test_private_addresses_pass_where_the_operator_allows_them(host: str) -> None:
    check_public_url(f"http://{host}", allow_private=True, resolve=lambda host, port: ["10.0.0.9"])


def test_a_private_name_that_does_not_resolve_yet_passes_where_the_operator_allows_it() -> None:
    check_public_url("http://gpu.internal", allow_private=True, resolve=lambda host, port: [])


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_even_where_private_ones_are_allowed(host: str) -> None:
    with pytest.raises(InvalidRequest, match="never allowed"):
        check(f"http://{host}", allow_private=True)


def test_a_name_of_a_metadata_address_is_refused_even_where_private_ones_are_allowed() -> None:
    with pytest.raises(InvalidRequest, match="never allowed"):
        check_public_url("http://gpu.internal", allow_private=True, resolve=lambda host, port: ["169.254.169.254"])


def test_the_refusal_of_a_private_address_names_the_option_that_allows_it() -> None:
    with pytest.raises(InvalidRequest, match="--allow-private"):
        check("http://10.0.0.5", allow_private=False)


def test_the_port_of_the_scheme_is_resolved_when_none_is_given() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return PUBLIC

    for url in ("http://a.fr", "https://a.fr", "https://a.fr:8443"):
        check_public_url(url, allow_private=False, resolve=resolve)
    assert asked == [("a.fr", 80), ("a.fr", 443), ("a.fr", 8443)]


def test_the_systems_resolver_finds_this_machine_which_is_refused() -> None:
    assert {ipaddress.ip_address(address).is_loopback for address in system_resolve("localhost", 80)} == {True}
    with pytest.raises(InvalidRequest, match="not public"):
        check_public_url("http://localhost", allow_private=False, resolve=system_resolve)


@pytest.mark.parametrize("name", [f"{'a' * 70}.fr", f"{'a.' * 200}fr"])
def test_a_name_that_is_too_long_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="does not resolve"):
        check_public_url(f"http://{name}", allow_private=False, resolve=system_resolve)


@given(st.one_of(st.text(), st.text("htps:/[]@%?#.0x1a\\ :-", max_size=30).map("http://".__add__)))
def test_any_text_passes_or_is_refused(url: str) -> None:
    try:
        check(url, *PUBLIC)
    except InvalidRequest as error:
        assert error.param == "url"  # noqa: PT017 - passing is fine too


@given(st.ip_addresses())
def test_no_address_passes_that_python_does_not_call_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast:
        refusal("http://gpu.example.fr", str(address))
