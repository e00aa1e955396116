"""Sets of addresses as CIDRs: joined, taken away from each other (netaddr: IPSet). All of one family at a time."""

import ipaddress
from collections.abc import Iterable, Iterator

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Span = tuple[int, int]


def compact(cidrs: Iterable[str]) -> list[str]:
    """The same addresses in the fewest CIDRs, in order."""
    return [str(net) for net in ipaddress.collapse_addresses([ipaddress.ip_network(cidr) for cidr in cidrs])]  # type: ignore[type-var]


def without(cidrs: Iterable[str], taken: Iterable[str]) -> list[Net]:
    """What is left of `cidrs`, in the fewest CIDRs, in order."""
    whole = list(cidrs)
    if not whole:
        return []
    kind = ipaddress.IPv4Address if ipaddress.ip_network(whole[0]).version == 4 else ipaddress.IPv6Address
    left: list[Net] = []
    for first, last in _gaps(_spans(whole), _spans(taken)):
        left += ipaddress.summarize_address_range(kind(first), kind(last))
    return left


def overlap(cidrs: Iterable[str], others: Iterable[str]) -> bool:
    mine, theirs = _spans(cidrs), _spans(others)
    return any(low <= last and first <= high for low, high in mine for first, last in theirs)


def within(cidrs: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all of `cidrs` is in `others`."""
    return not list(_gaps(_spans(cidrs), _spans(others)))


def _spans(cidrs: Iterable[str]) -> list[Span]:
    """First and last numbers, in order, those that touch joined."""
    spans: list[Span] = []
    for first, last in sorted((int(net[0]), int(net[-1])) for net in map(ipaddress.ip_network, cidrs)):
        if spans and first <= spans[-1][1] + 1:
            spans[-1] = spans[-1][0], max(last, spans[-1][1])
        else:
            spans.append((first, last))
    return spans


def _gaps(whole: list[Span], taken: list[Span]) -> Iterator[Span]:
    for low, high in whole:
        for first, last in taken:
            if last < low or first > high:
                continue
            if first > low:
                yield low, first - 1
            low = last + 1
        if low <= high:
            yield low, high
