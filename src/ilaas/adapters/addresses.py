"""Which URLs of servers may be added at run time: a member's form must not make the gateway call into its own network.

The check is of the moment; a name that later resolves to something else is not seen here.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ilaas.core.errors import InvalidRequest

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z")
_NUMBER = re.compile(r"(\d+|0[xX][0-9a-fA-F]*)\Z")

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned as global unicast; NAT64 (64:ff9b::/96), mapped and compatible addresses lie outside."""
_FORBIDDEN = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598), with Alibaba's metadata address
        "168.63.129.16/32",  # Azure's host, reachable from within its machines only
        "192.0.0.0/24",  # IETF protocol assignments (RFC 6890), with Oracle's metadata address
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # IETF protocol assignments, with Teredo, which embeds IPv4 (RFC 4380)
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds IPv4 (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
    )
)


_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, with the metadata address of most clouds
        "fe80::/10",
        "fd00:ec2::254/128",  # AWS's metadata address
        "100.100.100.200/32",  # Alibaba's
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle's metadata address
    )
)
"""Refused even where private addresses are allowed: no inference server is there, and a cloud's secrets are."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def check_public_url(url: str, *, allow_private: bool, resolve: Callable[[str, int], Sequence[str]]) -> None:
    """Let pass only http(s) URLs without credentials whose host has global unicast addresses only.

    With `allow_private` only the form is checked, and that it is no link-local or metadata address. `resolve` gives the
    addresses of a host and port, or raises OSError. Raises InvalidRequest (param `url`); it never repeats the URL.
    """
    host, port = _host_and_port(url)
    if not allow_private:
        public_addresses(host, port, allow_private=False, resolve=resolve)
        return
    try:
        addresses = _addresses(host, port, resolve)
    except InvalidRequest:
        return  # a name of a network that is not there yet
    _refuse_never(addresses)


def check_form(url: str) -> None:
    """Let pass only http(s) URLs without credentials, wherever they point. Raises InvalidRequest (param `url`)."""
    _host_and_port(url)


def public_addresses(
    host: str, port: int, *, allow_private: bool, resolve: Callable[[str, int], Sequence[str]]
) -> Sequence[str]:
    """The addresses of a host, none of which is refused: connect to these, since a name may resolve anew to another.

    Raises InvalidRequest (param `url`) when there is none, or, unless `allow_private`, when one is not global unicast.
    """
    addresses = _addresses(host, port, resolve)
    _refuse_never(addresses)
    if not allow_private and not all(map(_is_public, addresses)):
        raise _refusal(
            "points to an address that is not public (private network, this machine, or reserved). "
            "Use a public address, or allow private ones: with --allow-private on the command line, or with "
            "allow_private_addresses in the configuration file."
        )
    return [str(address) for address in addresses]


def _addresses(
    host: str, port: int, resolve: Callable[[str, int], Sequence[str]]
) -> Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return _resolved(host, port, resolve)


def _refuse_never(addresses: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    for address in map(_embedded, addresses):
        if any(address.version == network.version and address in network for network in _NEVER):
            raise _refusal(
                "points to an address that is not public but link-local, or a cloud's metadata: that is never allowed. "
                "Use the address at which the server is reached over the network."
            )


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, when it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def system_resolve(host: str, port: int) -> Sequence[str]:
    """All addresses that the system's resolver gives. Blocks; raises OSError when there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _refusal(what: str) -> InvalidRequest:
    return InvalidRequest(f"The field 'url' {what}", param="url")


def _host_and_port(url: str) -> tuple[str, int]:
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\]", url):
        raise _refusal("must be ASCII without spaces and backslashes. Write an international name in its xn-- form.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refusal("is not a URL. Write it like https://gpu.example.fr:8000.") from None
    if parts.scheme not in _PORTS:
        raise _refusal("must begin with http:// or https://.")
    if parts.username is not None or parts.password is not None:
        raise _refusal("holds a user name or a password. Send the server's key as 'token' instead.")
    if port == 0 or not host:
        raise _refusal("has no valid host and port. Write it like https://gpu.example.fr:8000.")
    _check_host(host, in_brackets="[" in parts.netloc)
    return host, port or _PORTS[parts.scheme]


def _check_host(host: str, *, in_brackets: bool) -> None:
    """A name, `a.b.c.d` or `[v6]`; none of the ways to write an IPv4 address that resolvers accept beside that."""
    try:
        ipaddress.IPv6Address(host) if in_brackets else ipaddress.IPv4Address(host)
    except ValueError:
        if in_brackets or not _HOST.match(host):
            raise _refusal(
                "has no valid host. Write a name, an IPv4 address, or an IPv6 address in brackets."
            ) from None
        if _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
            raise _refusal("has a host that is a number. Write an IPv4 address as four decimal numbers.") from None
    if in_brackets and "%" in host:
        raise _refusal("has an IPv6 address with a zone. Write a public address.")


def _resolved(
    host: str, port: int, resolve: Callable[[str, int], Sequence[str]]
) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in resolve(host, port)]
    except (
        OSError,
        ValueError,
    ):  # ValueError: a name that can't be one (UnicodeError), or an address of another family
        addresses = []
    if not addresses:
        raise _refusal("has a host that does not resolve. Check its spelling, or wait until its DNS entry is there.")
    return addresses


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return False
    if any(address.version == network.version and address in network for network in _FORBIDDEN):
        return False
    return address.is_global and not address.is_multicast
