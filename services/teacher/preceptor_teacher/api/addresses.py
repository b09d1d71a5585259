"""Which addresses a provider may have. Pure; `transport` asks here about every address before it connects to it.

Services that trust whoever reaches them live on loopback, in private networks and on the link's own addresses (a cloud's
metadata server hands out credentials there). A name that a stranger's DNS answers for can be any of them, so what counts is
the address, in every spelling that hides another one inside.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")
METADATA = frozenset(map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254", "192.0.0.192")))
_NOWHERE = (ip_network("0.0.0.0/8"), ip_network("255.255.255.255/32"))


def refusal(text: str, *, private: bool) -> str:
    """Why there must be no connection to this address; empty where there may be. `private`: the operator named the host."""
    try:
        outer = ip_address(text.partition("%")[0])
    except ValueError:
        return "not an address"
    mapped = outer.ipv4_mapped if isinstance(outer, IPv6Address) else None
    return next((why for one in (mapped or outer, *_inside(outer)) if (why := _refusal(one, private=private))), "")


def _refusal(one: Address, *, private: bool) -> str:
    if one in METADATA:
        return "a cloud's metadata address"
    if one.is_link_local or one.is_multicast or one.is_unspecified or any(one in net for net in _NOWHERE):
        return "link-local, multicast or no host's address"
    if one.is_global or private:
        return ""
    return "a private or reserved address"


def _inside(one: Address) -> list[Address]:
    """IPv4 addresses that a translator or tunnel would reach through this one."""
    if isinstance(one, IPv4Address):
        return []
    found: list[Address | None] = [one.sixtofour, *(one.teredo or ())]
    if any(one in net for net in _NAT64) or (one in _COMPATIBLE and int(one) > 1):
        found.append(IPv4Address(int(one) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]
