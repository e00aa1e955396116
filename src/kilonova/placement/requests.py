"""The query of GET /allocation_candidates: request groups, and what concerns the request as a whole."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from kilonova.model.errors import BadRequest
from kilonova.web.call import Call
from kilonova.web.validate import whole

BAD_VALUE = "placement.query.bad_value"
MISSING_VALUE = "placement.query.missing_value"
DUPLICATE_KEY = "placement.query.duplicate_key"

SIGNED = re.compile(r"\s*([+-]?)([0-9]+)\s*", re.ASCII)  # as int() takes one
KEY = re.compile(r"(resources|required|member_of|in_tree)([1-9][0-9]*)?", re.ASCII)
KEY_1_33 = re.compile(r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?", re.ASCII)


@dataclass
class Group:
    """One request group. `required`: each set needs one trait of it; `member_of`: each set needs one aggregate of it."""

    resources: dict[str, int] = field(default_factory=dict)
    required: list[set[str]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    member_of: list[set[str]] = field(default_factory=list)
    forbidden_aggregates: set[str] = field(default_factory=set)
    in_tree: str | None = None


@dataclass
class Wanted:
    """`groups` by suffix: "" may be spread over a tree, any other is one provider's."""

    groups: dict[str, Group]
    limit: int | None = None
    isolate: bool = False
    root_required: set[str] = field(default_factory=set)
    root_forbidden: set[str] = field(default_factory=set)
    same_subtrees: list[set[str]] = field(default_factory=list)
    nested: bool = True  # microversion 1.29: whether a tree's lower providers may take part


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)).replace("-", "") == text.replace("-", "").lower()
    except ValueError:
        return False


def refuse_unknown(call: Call, known: set[str], pattern: re.Pattern[str] | None = None) -> None:
    for key, _ in call.query:
        if key not in known and not (pattern and pattern.fullmatch(key)):
            raise BadRequest(
                f"Invalid query string parameters: Additional properties are not allowed ({key!r} was unexpected)"
            )


def parse_resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:1024`."""
    form = (
        "Badly formed resources parameter. Expected resources query string parameter in form: "
        "?resources=VCPU:2,MEMORY_MB:1024. Got: "
    )
    if not text.strip():
        raise BadRequest(form + "empty string.")
    found = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        if not colon or ":" in amount:
            raise BadRequest(f"{form}{part}.")
        written = SIGNED.fullmatch(amount)
        if written is None:
            raise BadRequest(f"Requested resource {name} expected positive integer amount. Got: {amount}.")
        number = whole(written[2]) or 0
        if number < 1 or written[1] == "-":
            raise BadRequest(f"Requested resource {name} requires amount >= 1. Got: {amount.strip()}.")
        found[name] = number
    return found


def parse_traits(call: Call, key: str) -> tuple[list[set[str]], set[str]]:
    """All values of `key` (before 1.39: the last) as (required: any of each set, forbidden)."""
    required: list[set[str]] = []
    forbidden: set[str] = set()
    values = call.args(key)
    for value in values if call.since(39) else values[-1:]:
        one, other = _traits(value, call.since(22), call.since(39))
        required += one
        forbidden |= other
    return required, forbidden


def _traits(value: str, may_forbid: bool, may_any: bool) -> tuple[list[set[str]], set[str]]:
    prefix = "Invalid query string parameters: "
    if value.startswith("in:"):
        if not may_any:
            raise BadRequest(
                f"{prefix}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion 1.39. "
                f"Got: {value}"
            )
        any_of = {part.strip() for part in value[3:].split(",")}
        if "" in any_of:
            raise BadRequest(
                f"{prefix}Expected 'required' parameter value of the form: in:HW_CPU_X86_VMX,CUSTOM_MAGIC. Got an empty "
                f"trait in: {value}"
            )
        if any(part.startswith("!") for part in any_of):
            raise BadRequest(
                f"{prefix}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' does not support forbidden traits. Got: {value}"
            )
        return [any_of], set()
    parts = [part.strip() for part in value.split(",")]
    forbidden = {part.lstrip("!") for part in parts if part.startswith("!")}
    form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if may_forbid else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    if "" in parts or "" in forbidden:
        raise BadRequest(
            f"{prefix}Expected 'required' parameter value of the form: {form}. Got an empty trait in: {value}"
        )
    if forbidden and not may_forbid:
        raise BadRequest(f"{prefix}Expected 'required' parameter value of the form: {form}. Got: {value}")
    return [{part} for part in parts if not part.startswith("!")], forbidden


def parse_member_of(call: Call, key: str) -> tuple[list[set[str]], set[str]]:
    """All values of `key` as (required: any of each set, forbidden aggregates)."""
    values = call.args(key)
    if len(values) > 1 and not call.since(24):
        raise BadRequest(f"Multiple {key} parameters are not supported")
    required: list[set[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if "," in value and not value.startswith(("in:", "!in:")):
            raise BadRequest(
                "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid "
                f"microversion. Got: {value}"
            )
        bare = value.removeprefix("!").removeprefix("in:")
        for part in bare.split(","):
            if not is_uuid(part):
                raise BadRequest(
                    "Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). "
                    f"Got: {part}"
                )
        if value.startswith("!"):
            if not call.since(32):
                raise BadRequest(f"Forbidden {key} parameters are not supported in the specified microversion")
            forbidden |= set(bare.split(","))
        else:
            required.append(set(bare.split(",")))
    return required, forbidden


def parse(call: Call) -> Wanted:
    """The whole query. BadRequest with placement's own sentence for what it refuses."""
    _check_keys(call)
    groups = _groups(call)
    subtrees = [{part.strip() for part in value.split(",")} for value in call.args("same_subtree")]
    if any("" in subtree for subtree in subtrees):
        raise BadRequest("Empty string (unsuffixed group) can not be specified in `same_subtree` ", code=BAD_VALUE)
    _check_groups(call, groups, subtrees)
    limit, policy = _first(call, "limit"), _first(call, "group_policy")
    if limit is not None and not re.fullmatch(r"[1-9][0-9]*", limit, re.ASCII):
        raise BadRequest(f"Invalid query string parameters: {limit!r} does not match '^[1-9][0-9]*$'")
    if policy not in (None, "none", "isolate"):
        raise BadRequest(f"Invalid query string parameters: {policy!r} is not one of ['none', 'isolate']")
    if policy is None and len([suffix for suffix in groups if suffix]) > 1:
        raise BadRequest(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    root_required, root_forbidden = _root(call)
    return Wanted(
        groups, whole(limit) if limit else None, policy == "isolate", root_required, root_forbidden, subtrees,
        nested=call.since(29),
    )  # fmt: skip


def _first(call: Call, key: str) -> str | None:
    """Of several, where placement takes the first."""
    return next(iter(call.args(key)), None)


def _check_keys(call: Call) -> None:
    known = {"resources"}
    for minor, name in ((16, "limit"), (17, "required"), (21, "member_of"), (25, "group_policy"), (31, "in_tree"),
                        (35, "root_required"), (36, "same_subtree")):  # fmt: skip
        if call.since(minor):
            known.add(name)
    pattern = (KEY_1_33 if call.since(33) else KEY) if call.since(25) else None
    if pattern and not call.since(31):
        pattern = re.compile(pattern.pattern.replace("|in_tree", ""), re.ASCII)
    refuse_unknown(call, known, pattern)
    if not call.since(25) and call.arg("resources") is None:
        raise BadRequest("Invalid query string parameters: 'resources' is a required property")


def _groups(call: Call) -> dict[str, Group]:
    pattern = KEY_1_33 if call.since(33) else KEY
    groups: dict[str, Group] = {}
    seen: set[str] = set()
    for key, value in call.query:
        match = pattern.fullmatch(key)
        if not match or key in ("limit", "group_policy", "root_required", "same_subtree"):
            continue
        again = key in seen
        seen.add(key)
        kind, suffix = match.group(1), match.group(2) or ""
        group = groups.setdefault(suffix, Group())
        if kind == "resources":
            group.resources = parse_resources(value)
        elif kind in ("required", "member_of") and again:
            continue  # all its values were taken at the first
        elif kind == "required":
            group.required, group.forbidden = parse_traits(call, key)
        elif kind == "member_of":
            group.member_of, group.forbidden_aggregates = parse_member_of(call, key)
        else:
            if not is_uuid(value.strip()):
                raise BadRequest(
                    "Invalid query string parameters: Expected 'in_tree' parameter to be a format of uuid. "
                    f"Got: {value}"
                )
            group.in_tree = str(uuid.UUID(value.strip()))
    return groups


def _check_groups(call: Call, groups: Mapping[str, Group], subtrees: list[set[str]]) -> None:
    empty = sorted(suffix for suffix, group in groups.items() if not group.resources)
    if call.since(36):
        if len(empty) == len(groups):
            raise BadRequest("There must be at least one resources or resources[$S] parameter.", code=MISSING_VALUE)
        named = set().union(*subtrees) if subtrees else set()
        if bad := [suffix for suffix in empty if suffix not in named]:
            raise BadRequest(
                "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - "
                f"{bad}.",
                code=BAD_VALUE,
            )
        if bad := sorted(named - set(groups)):
            raise BadRequest(
                f"Real suffixes should be specified in `same_subtree`: {bad} not found in {list(groups)}.",
                code=BAD_VALUE,
            )
    elif empty or not groups:
        orphans = [f"required{suffix}" for suffix in empty if groups[suffix].required]
        if orphans:
            raise BadRequest(
                "All traits parameters must be associated with resources.  Found the following orphaned traits keys: "
                + ", ".join(orphans)
            )
        of_aggregates = [suffix for suffix in empty if groups[suffix].member_of or groups[suffix].forbidden_aggregates]
        orphans = [f"member_of{suffix}" for suffix in of_aggregates]
        if orphans:
            raise BadRequest(
                "All member_of parameters must be associated with resources. Found the following orphaned member_of "
                "keys: " + ", ".join(orphans)
            )
        raise BadRequest(
            "All request groups must specify resources."
            if groups
            else "At least one request group (`resources` or `resources{$S}`) is required."
        )
    clashes = sorted(
        f"required{suffix}: ({', '.join(sorted(any_of))})"
        for suffix, group in groups.items() for any_of in group.required if any_of <= group.forbidden
    )  # fmt: skip
    if clashes:
        raise BadRequest(
            f"Conflicting required and forbidden traits found in the following traits keys: {', '.join(clashes)}"
        )


def _root(call: Call) -> tuple[set[str], set[str]]:
    values = call.args("root_required")
    if not values:
        return set(), set()
    if len(values) > 1:
        raise BadRequest("Query parameter 'root_required' may be specified only once.", code=DUPLICATE_KEY)
    required, forbidden = _traits(values[0], True, False)
    wanted = set().union(*required) if required else set()
    if wanted & forbidden:
        raise BadRequest(
            f"Conflicting required and forbidden traits found in root_required: {', '.join(sorted(wanted & forbidden))}",
            code=BAD_VALUE,
        )
    return wanted, forbidden
