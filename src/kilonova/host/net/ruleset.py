"""Our nft tables as parts that come, change and go: only what differs is loaded, in one transaction.

The whole is loaded only when the kernel holds something else than we loaded. A number that grows with every commit to a
namespace's rules, whoever makes it, says when to look; what ours must look like when listed is learnt in a namespace of
no name that ends with the question. So tables that are right are found right, by a new process too, and left alone.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kilonova.host.calls import run
from kilonova.host.net.netlink import NETLINK_NETFILTER, Netlink
from kilonova.model.errors import HostError

LOG = logging.getLogger(__name__)
FAMILIES = ("bridge", "ip", "ip6")


class Set(NamedTuple):
    """`kind`: set | map; `of`: its types and flags, in nft's words."""

    family: str
    name: str
    kind: str
    of: str


class Chain(NamedTuple):
    """`body`: its rules, one a line. Chains of parts name sets, but no other part's chains."""

    family: str
    name: str
    body: str


class Element(NamedTuple):
    """Of the set or map `of`; `value` is empty in a set. Keys differ from part to part."""

    family: str
    of: str
    key: str
    value: str = ""


@dataclass(frozen=True)
class Part:
    """Sets and chains may belong to several parts, and must be equal then: they go with the last of them."""

    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    elements: frozenset[Element] = frozenset()


class Ruleset:
    """The tables named `table` of a network namespace (None: the host's own), over one netlink socket."""

    def __init__(self, netns: str | None, table: str) -> None:
        self.netns, self.table = netns, table
        self.netlink = Netlink(netns, NETLINK_NETFILTER)
        self._loaded: dict[str, Part] | None = None  # what the kernel has, as of _generation
        self._generation = -1
        self._listing: frozenset[str] | None = None  # what _loaded looks like when listed, once somebody asked
        self._uses: Counter[Set | Chain] = Counter()

    def close(self) -> None:
        self.netlink.close()

    def apply(self, parts: Mapping[str, Part]) -> None:
        """Makes the tables these parts, name → part. Raises HostError when nft refuses them; nothing has changed then."""
        generation = self.netlink.nft_generation()
        if generation != self._generation:
            expected = self._loaded if self._loaded is not None else parts
            if not self._holds(expected):
                self._load(whole(self.table, parts), parts, generation)
                return
            self._generation = generation
            if self._loaded is None:
                self._set_loaded(parts)
        assert self._loaded is not None
        script = self._change(self._loaded, parts)
        if not script:
            return
        try:
            self._load(script, parts, generation)
        except HostError as error:
            LOG.warning("the rules are loaded whole: %s", error)
            self._load(whole(self.table, parts), parts, generation)

    def _holds(self, parts: Mapping[str, Part]) -> bool:
        """The kernel's tables are what these parts look like when listed."""
        found = canonical(run(["nft", "-s", "list", "ruleset"], netns=self.netns), self.table)
        if not found:
            return False
        if self._listing is None or parts is not self._loaded:
            apart = ["unshare", "--net", "--", "sh", "-c", "nft -f - && nft -s list ruleset"]
            self._listing = canonical(run(apart, input=whole(self.table, parts)), self.table)
        return found == self._listing

    def _load(self, script: str, parts: Mapping[str, Part], generation: int) -> None:
        load(self.netns, script)
        self._set_loaded(parts)
        self._listing = None
        now = self.netlink.nft_generation()
        # One commit is ours; another one in between may have been anybody's, so the next pass looks closer.
        self._generation = now if now == generation + 1 else -1

    def _set_loaded(self, parts: Mapping[str, Part]) -> None:
        old, new = _differing(self._loaded or {}, parts)
        self._uses.update(_uses(new))
        self._uses.subtract(_uses(old))
        for thing in _uses(old):
            if not self._uses[thing]:
                del self._uses[thing]
        self._loaded = dict(parts)

    def _change(self, before: Mapping[str, Part], parts: Mapping[str, Part]) -> str:
        """The commands that make `parts` of `before`; empty when there is nothing to do."""
        old, new = _differing(before, parts)
        uses = _uses(new)
        uses.subtract(_uses(old))
        come = [thing for thing, count in uses.items() if self._uses[thing] == 0 < count]
        go = [thing for thing, count in uses.items() if count < 0 and self._uses[thing] + count == 0]
        had = frozenset[Element]().union(*(part.elements for part in old))
        have = frozenset[Element]().union(*(part.elements for part in new))
        dropped = {thing[:2] for thing in go if isinstance(thing, Set)}  # their elements go with them
        lost = [element._replace(value="") for element in had - have if element[:2] not in dropped]
        lines = [self._added(thing) for thing in come if isinstance(thing, Set)]
        lines += [self._added(thing) for thing in come if isinstance(thing, Chain)]
        lines += self._elements("delete", lost)
        lines += self._elements("add", have - had)
        lines += [self._removed(thing) for thing in go if isinstance(thing, Chain)]
        lines += [self._removed(thing) for thing in go if isinstance(thing, Set)]
        return "".join(lines)

    def _added(self, thing: Set | Chain) -> str:
        return f"table {thing.family} {self.table} {{\n{_block(thing)}}}\n"

    def _removed(self, thing: Set | Chain) -> str:
        return f"delete {_kind(thing)} {thing.family} {self.table} {thing.name}\n"

    def _elements(self, verb: str, elements: Iterable[Element]) -> list[str]:
        return [
            f"{verb} element {family} {self.table} {name} {{ {_listed(found)} }}\n"
            for (family, name), found in _by_set(elements).items()
        ]


def whole(table: str, parts: Mapping[str, Part]) -> str:
    """The text that replaces the three tables by these parts, and touches no other."""
    sets: dict[Set | Chain, None] = dict.fromkeys(thing for part in parts.values() for thing in part.sets)
    chains: dict[Set | Chain, None] = dict.fromkeys(thing for part in parts.values() for thing in part.chains)
    elements = _by_set(element for part in parts.values() for element in part.elements)
    texts = []
    for family in FAMILIES:
        blocks = [_block(each) for each in (*sets, *chains) if each.family == family]
        texts.append(f"table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n")
        texts += [*blocks, "}\n"]
    texts += [
        f"add element {family} {table} {name} {{ {_listed(found)} }}\n" for (family, name), found in elements.items()
    ]
    return "".join(texts)


def load(netns: str | None, script: str) -> None:
    """All or nothing, in one nft transaction. Raises HostError with nft's words."""
    run(["nft", "-f", "-"], input=script, netns=netns)


def purge(netns: str | None, table: str) -> None:
    """Removes the tables; nothing happens when they are gone."""
    load(netns, "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in FAMILIES))


def canonical(listing: str, table: str) -> frozenset[str]:
    """What `nft list ruleset` says of our tables, in no order; empty when there are none."""
    found: list[str] = []
    for text in listing.split("\n}\n"):
        head, _, body = text.lstrip("\n").partition("{\n")
        words = head.split()
        if len(words) == 3 and words[1] in FAMILIES and words[2] == table:
            found += [f"{words[1]} {_sorted_elements(block.strip())}" for block in f"{body}\n".split("\n\t}\n")]
    return frozenset(found)


def _sorted_elements(block: str) -> str:
    head, found, elements = block.partition("elements = {")
    return head + " ".join(sorted(element.strip(" \t\n}") for element in elements.split(","))) if found else block


def _differing(before: Mapping[str, Part], after: Mapping[str, Part]) -> tuple[list[Part], list[Part]]:
    """The parts that only `before`, and only `after` has."""

    def lacking(here: Mapping[str, Part], there: Mapping[str, Part]) -> list[Part]:
        others = ((part, there.get(name)) for name, part in here.items())
        return [part for part, other in others if part is not other and part != other]

    return lacking(before, after), lacking(after, before)


def _uses(parts: Iterable[Part]) -> Counter[Set | Chain]:
    uses: Counter[Set | Chain] = Counter()
    for part in parts:
        uses.update(part.sets)
        uses.update(part.chains)
    return uses


def _kind(thing: Set | Chain) -> str:
    return "chain" if isinstance(thing, Chain) else thing.kind


def _block(thing: Set | Chain) -> str:
    body = thing.body if isinstance(thing, Chain) else f"  {thing.of}\n"
    return f" {_kind(thing)} {thing.name} {{\n{body} }}\n"


def _by_set(elements: Iterable[Element]) -> dict[tuple[str, str], list[Element]]:
    found = defaultdict[tuple[str, str], list[Element]](list)
    for element in elements:
        found[element.family, element.of].append(element)
    return found


def _listed(elements: Iterable[Element]) -> str:
    return ", ".join(f"{element.key} : {element.value}" if element.value else element.key for element in elements)
