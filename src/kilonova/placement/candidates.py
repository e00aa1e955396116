"""Who could give what is asked: for the scheduler (`hosts`), and for GET /allocation_candidates (`find`)."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.placement import names, snapshot
from kilonova.placement.requests import Group, Wanted
from kilonova.placement.snapshot import SHARING, Provider, Stock

# Choices looked at for one request (placement: max_allocation_candidates), and of these for one tree at least.
MAX_TRIED, TREE_TRIED = 100_000, 1000


@dataclass(frozen=True)
class Candidate:
    """A host that was asked. `resources`: what it has of each class asked for; `refused`: by class, why it cannot."""

    uuid: str
    name: str
    resources: Mapping[str, Stock]
    refused: Mapping[str, str]

    @property
    def fits(self) -> bool:
        return not self.refused

    @property
    def why_not(self) -> str:
        """`MEMORY_MB: asked 4096, free 512, used 1536 of 2048`; "" when it fits."""
        return ", ".join(f"{name}: {why}" for name, why in self.refused.items())


def hosts(tx: Tx, resources: Mapping[str, int]) -> list[Candidate]:
    """Every host (a root provider that is no sharing one), oldest first, those that refuse included."""
    found = []
    for provider in snapshot.read(tx).values():
        if provider.parent is not None or SHARING in provider.traits:
            continue
        refused = {}
        for name, amount in resources.items():
            if not amount:
                continue
            stock = provider.stocks.get(name)
            why = stock.refuses(amount) if stock else f"asked {amount}, the host offers none"
            if why:
                refused[name] = why
        stocks = {name: provider.stocks[name] for name in resources if name in provider.stocks}
        found.append(Candidate(provider.uuid, provider.name, stocks, refused))
    return found


@dataclass(frozen=True)
class AllocationRequest:
    """`allocations`: provider → class → amount; `mappings`: suffix → the providers that serve that group."""

    allocations: Mapping[str, Mapping[str, int]]
    mappings: Mapping[str, list[str]]


def find(tx: Tx, wanted: Wanted) -> tuple[list[AllocationRequest], list[Provider]]:
    """What could be claimed, and the providers concerned (placement: `AllocationCandidates.get_by_requests`)."""
    _check_names(tx, wanted)
    everything = snapshot.read(tx)
    trees: dict[str, list[Provider]] = {}
    for provider in everything.values():
        trees.setdefault(provider.root, []).append(provider)
    found: dict[str, AllocationRequest] = {}
    for request in _in_trees(wanted, everything, trees):
        key = repr((sorted((k, sorted(v.items())) for k, v in request.allocations.items()), request.mappings))
        found.setdefault(key, request)
        if len(found) == wanted.limit:
            break
    used = {uuid for request in found.values() for uuids in request.mappings.values() for uuid in uuids}
    if wanted.nested:
        used = {provider.uuid for root in {everything[uuid].root for uuid in used} for provider in trees[root]}
    return list(found.values()), [provider for uuid, provider in everything.items() if uuid in used]


def _in_trees(
    wanted: Wanted, everything: Mapping[str, Provider], trees: Mapping[str, list[Provider]]
) -> Iterator[AllocationRequest]:
    """By turns, one of each tree (placement: breadth-first), so that a limit is met by many hosts, not by the first one's
    combinations; and none takes all the tries."""
    sharing = [provider for provider in everything.values() if SHARING in provider.traits]
    tries, most = iter(range(MAX_TRIED)), max(TREE_TRIED, MAX_TRIED // max(len(trees), 1))
    waiting = deque(
        _in_tree(wanted, everything, tree, sharing, itertools.islice(tries, most))
        for root, tree in trees.items()
        if wanted.root_required <= (traits := everything[root].traits) and not wanted.root_forbidden & traits
    )
    while waiting:
        ways = waiting.popleft()
        for request in itertools.islice(ways, 1):
            yield request
            waiting.append(ways)


def _check_names(tx: Tx, wanted: Wanted) -> None:
    classes = {name for group in wanted.groups.values() for name in group.resources}
    if unknown := names.unknown_classes(tx, classes):
        raise BadRequest(f"Invalid resource class in resources parameter: No such resource class {unknown[0]}.")
    traits = wanted.root_required | wanted.root_forbidden
    for group in wanted.groups.values():
        traits = traits.union(group.forbidden, *group.required)
    if unknown := names.unknown_traits(tx, traits):
        raise BadRequest(f"No such trait(s): {', '.join(unknown)}.")


def _in_tree(
    wanted: Wanted, everything: Mapping[str, Provider], tree: list[Provider], sharing: list[Provider], tries: Iterator[int]
) -> Iterator[AllocationRequest]:
    """The ways to serve all groups from one tree and the sharing providers of its aggregates."""
    inside = {provider.uuid for provider in tree}
    joined = set().union(*(provider.aggregates for provider in tree))
    reach = [*tree, *(each for each in sharing if each.uuid not in inside and each.aggregates & joined)]
    ways = []
    for suffix, group in sorted(wanted.groups.items()):
        in_reach = [p for p in reach if group.in_tree is None or _same_tree(everything, p, group.in_tree)]
        choices = _one_provider(group, in_reach) if suffix else _spread(group, in_reach, everything)
        ways.append((suffix, choices))
        if not choices:
            return
    for picked in _together(wanted, ways, {}, everything, tries):
        uuids = [uuid for choice in picked.values() for uuid in choice]
        if inside.intersection(uuids) and (wanted.nested or _one_of_each_tree(everything, uuids)):
            yield AllocationRequest(_sums(picked), {suffix: list(choice) for suffix, choice in picked.items()})


def _one_of_each_tree(everything: Mapping[str, Provider], uuids: Iterable[str]) -> bool:
    """Placement: `exclude_nested_providers`, for those who know no trees (before microversion 1.29)."""
    roots = [everything[uuid].root for uuid in set(uuids)]
    return len(set(roots)) == len(roots)


Choice = Mapping[str, Mapping[str, int]]  # provider → class → amount
Picked = Mapping[str, Choice]  # by group's suffix


def _together(
    wanted: Wanted,
    ways: Sequence[tuple[str, Sequence[Choice]]],
    picked: Picked,
    everything: Mapping[str, Provider],
    tries: Iterator[int],
) -> Iterator[Picked]:
    """A choice for each group, such that all go together; what already does not is not gone on from."""
    if not ways:
        yield picked
        return
    (suffix, choices), rest = ways[0], ways[1:]
    for choice in choices:
        if next(tries, None) is None:
            return
        more = {**picked, suffix: choice}
        if _go_together(wanted, more, everything):
            yield from _together(wanted, rest, more, everything, tries)


def serves(group: Group, provider: Provider) -> bool:
    """Whether this one provider has all that the group asks: resources, traits, aggregates."""
    return (
        _has(group, provider.traits, provider.traits)
        and _member(group, provider.aggregates)
        and all(
            name in provider.stocks and not provider.stocks[name].refuses(amount)
            for name, amount in group.resources.items()
        )
    )


def _one_provider(group: Group, reach: Iterable[Provider]) -> list[Choice]:
    return [{provider.uuid: group.resources} for provider in reach if serves(group, provider)]


def _spread(group: Group, reach: Iterable[Provider], everything: Mapping[str, Provider]) -> list[Choice]:
    """Each class from any provider; the traits are wanted of all of them together, a forbidden one of none."""
    able = [
        provider for provider in reach
        if not group.forbidden & provider.traits
        and _member(group, provider.aggregates | everything[provider.root].aggregates)
    ]  # fmt: skip
    per_class = [
        [(name, amount, provider) for provider in able
         if name in provider.stocks and not provider.stocks[name].refuses(amount)]
        for name, amount in group.resources.items()
    ]  # fmt: skip
    choices: list[Choice] = []
    for picked in itertools.islice(itertools.product(*per_class), MAX_TRIED):
        traits: set[str] = set().union(*(provider.traits for _, _, provider in picked))
        if not _has(group, traits, set()):
            continue
        choice: dict[str, dict[str, int]] = {}
        for name, amount, provider in picked:
            choice.setdefault(provider.uuid, {})[name] = amount
        choices.append(choice)
    return choices


def _has(group: Group, traits: set[str], own: set[str]) -> bool:
    return all(any_of & traits for any_of in group.required) and not group.forbidden & own


def _member(group: Group, aggregates: set[str]) -> bool:
    return all(any_of & aggregates for any_of in group.member_of) and not group.forbidden_aggregates & aggregates


def _same_tree(everything: Mapping[str, Provider], provider: Provider, uuid: str) -> bool:
    return uuid in everything and everything[uuid].root == provider.root


def _go_together(wanted: Wanted, picked: Picked, everything: Mapping[str, Provider]) -> bool:
    """Whether the choices fit when they are added up, and break none of the request's own rules."""
    suffixed = [uuid for suffix, choice in picked.items() if suffix for uuid in choice]
    if wanted.isolate and len(set(suffixed)) < len(suffixed):
        return False
    for subtree in wanted.same_subtrees:
        members = {uuid for suffix in subtree if suffix in picked for uuid in picked[suffix]}
        whole = subtree <= picked.keys()
        if whole and not any(all(_above(everything, top, uuid) for uuid in members) for top in members):
            return False
    sums = _sums(picked).items()
    return not any(everything[uuid].stocks[name].refuses(n) for uuid, per in sums for name, n in per.items())


def _sums(picked: Picked) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for choice in picked.values():
        for uuid, resources in choice.items():
            for name, amount in resources.items():
                per = sums.setdefault(uuid, {})
                per[name] = per.get(name, 0) + amount
    return sums


def _above(everything: Mapping[str, Provider], top: str, uuid: str) -> bool:
    """Whether `top` is `uuid` or one of its ancestors."""
    here: str | None = uuid
    while here is not None:
        if here == top:
            return True
        here = everything[here].parent
    return False
