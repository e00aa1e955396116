"""Sets of addresses as CIDRs: joined, taken away from each other (netaddr: IPSet). All of one family at a time."""

import functools
import ipaddress
import itertools
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
    spans = sorted([*_spans(cidrs), *_spans(others)])
    return any(first <= last_before for (_, last_before), (first, _) in itertools.pairwise(spans))


def within(cidrs: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all of `cidrs` is in `others`."""
    return not list(_gaps(_spans(cidrs), _spans(others)))


@functools.lru_cache(maxsize=1 << 14)
def _span(cidr: str) -> Span:
    net = ipaddress.ip_network(cidr)
    return int(net.network_address), int(net.broadcast_address)


def _spans(cidrs: Iterable[str]) -> list[Span]:
    """First and last numbers, in order, those that touch joined."""
    spans: list[Span] = []
    for first, last in sorted(map(_span, cidrs)):
        if spans and first <= spans[-1][1] + 1:
            spans[-1] = spans[-1][0], max(last, spans[-1][1])
        else:
            spans.append((first, last))
    return spans


def _gaps(whole: list[Span], taken: list[Span]) -> Iterator[Span]:
    at = 0  # of those taken, the first that does not end before what is looked at
    for low, high in whole:
        while at < len(taken) and taken[at][0] <= high:
            first, last = taken[at]
            if low < first:
                yield low, first - 1
            low = max(low, last + 1)
            if last > high:
                break  # it takes from the next one, too
            at += 1
        if low <= high:
            yield low, high
