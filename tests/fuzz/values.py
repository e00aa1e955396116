"""Values of a JSON schema: mostly what fits, now and then what does not, with ids that exist.

The odd texts, numbers and matches of patterns are Hypothesis' own, drawn once; which of them goes where, one `Random` says,
so that one seed makes one run. (A test of Hypothesis' own would be of whole bodies, but which ids exist is only known when
a request is made.)
"""

import functools
import re
import uuid
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

LONG = ["a" * 256, "x" * 70_000]
TEXT = st.one_of(st.text(max_size=12), st.sampled_from(["", "a", "name-1", "é\ud7ff😀", "%", "' --", *LONG]))
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXT,
    st.sampled_from([[], {}, [None], [{}], {"a": {}}, "a\0b", -1, 2**31, 2**63, "1" * 30, "-1", "null", [[[[[]]]]], "..",
                     "1.5"]),
)  # fmt: skip
NUMBERS = [0, 1, 2, 3, 4, 5, 8, 10, 22, 64, 100, 1000, 4095, 65535, 65536, -1, 2**31 - 1, 2**31, 2**63, 10**30]
# What a word of this name holds, where the schema says no more than that it is text.
NAMES = ("a", "k", "CUSTOM_A", "VCPU", "HW_CPU_X86_VMX", "name-1")
HINTS = (
    (".*cidr|.*prefix(es)?|destination",
     "10.0.0.0/24 10.1.0.0/16 10.0.0.0/8 fd00::/64 0.0.0.0/0 ::/0 10.0.0.1/32 10.0.0.0/33 10.9.9.9/24 224.0.0.0/4"),
    (".*(ip|ip_address|_ip_.*|nexthop|start|end|address|gateway)",
     "10.0.0.5 10.0.0.209 10.0.0.255 10.1.0.1 fd00::5 172.24.4.77 0.0.0.0 255.255.255.255 :: fe80::1 10.0.0.300 127.0.0.1"),
    ("mac.*", "fa:16:3e:00:00:01 02:00:00:00:00:01 00:00:00:00:00:00 ff:ff:ff:ff:ff:ff fa16.3e00.0001"),
    ("disk_format", "raw qcow2 iso vmdk"), ("container_format", "bare ovf"),
    ("visibility", "public private shared community"), ("flavor_?(ref|id)?", "1 2 42 m1.nano"),
    ("ethertype", "IPv4 IPv6"), ("protocol", "tcp udp icmp icmpv6 6 255 256 any sctp"), ("direction", "ingress egress both"),
    ("object_type", "network qos_policy subnetpool security_group address_scope address_group"),
    ("action", "access_as_shared access_as_external allow"), ("domain(_id)?", "default"),
    ("name", "name-1 demo admin default"), ("resources", "VCPU:1 VCPU:1,MEMORY_MB:64 CUSTOM_A:1 VCPU:0"),
    ("required|root_required", "HW_CPU_X86_VMX !HW_CPU_X86_VMX CUSTOM_A in:CUSTOM_A,CUSTOM_B"),
    ("sort(_key)?", "name id created_at created_at:desc,name:asc bytes"), ("sort_dir", "asc desc up"),
    ("limit", f"0 1 2 1000 -1 {'9' * 30}"), ("fields", "id name x"),
    (".*(_at|since|before|expires).*", "2026-01-01T00:00:00Z 2026-01-01T00:00:00 2100-01-01 gt:2026-01-01T00:00:00Z x "
     "9999-12-31T23:59:59-14:00 0001-01-01T00:00:00+14:00 9999-12-31T23:59:59.999999Z 0001-01-01T00:00:00Z "
     "lt:9999-12-31T23:59:59-14:00"),
    ("path", "/name /tags /visibility /a /a/b name"), ("op", "add replace remove move"),
)  # fmt: skip


@functools.cache
def hints(name: str) -> Sequence[str]:
    return next((words.split() for pattern, words in HINTS if re.fullmatch(pattern, name.lower())), [])


@functools.cache
def drawn(strategy: st.SearchStrategy[Any], count: int = 200) -> Sequence[Any]:
    """Values that Hypothesis finds worth trying; always the same ones."""
    found: list[Any] = []

    @seed(1)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


@functools.cache
def of_pattern(pattern: str) -> Sequence[str]:
    """Texts that fit; any text where Python's regular expressions do not know the pattern."""
    try:
        return drawn(st.from_regex(pattern), 20)
    except Exception:  # Hypothesis' own, of several kinds
        return drawn(TEXT)


class Values:
    """`ids(name)`: what a field of this name (`network_id`) may hold, all for ""; `resolve` follows a schema's `$ref`.

    Half of them are `tame`: they have what fits and what is needed, and little else.
    """

    def __init__(self, random: Random, ids: Callable[[str], list[str]], resolve: Callable[[Any], Any]) -> None:
        self.random, self.ids, self.resolve = random, ids, resolve
        self.tame = self.one_in(2)

    def odd(self, number: int) -> bool:
        """Whether to do what does not fit, one time in so many."""
        return not self.tame and self.one_in(number)

    def one_in(self, number: int) -> bool:
        return self.random.randrange(number) == 0

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.random.randrange(len(choices))]

    def ident(self, name: str) -> str:
        """An id that there is, mostly; of what has names, one of those that the furniture has."""
        known = self.ids(name) or (*NAMES, *self.ids(""))
        if not self.odd(6):
            return str(self.pick(known))
        return (
            str(uuid.UUID(int=self.random.getrandbits(128), version=4))
            if self.one_in(2)
            else str(self.pick(drawn(TEXT)))
        )

    def of(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A value of `schema`, which is what is called `name`."""
        schema = self.resolve(schema)
        if self.odd(20) or depth > 8 or not isinstance(schema, dict):
            return self.pick(drawn(JUNK))
        if "enum" in schema or "const" in schema:
            return self.pick(schema.get("enum") or [schema["const"]])
        for several in ("oneOf", "anyOf"):
            if schema.get(several):
                rest = {key: value for key, value in schema.items() if key != several}
                return self.of(rest | self.resolve(self.pick(schema[several])), name, depth + 1)
        for part in schema.get("allOf", ()):
            schema = {**schema, **self.resolve(part)}
        kind = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else "string"
        )
        kind = self.pick(kind) if isinstance(kind, list) else kind
        make = {"object": self._object, "array": self._array, "string": self._string}.get(kind)
        return make(schema, name, depth) if make else self._plain(kind, schema)

    def changed(self, body: Any) -> Any:
        """A body that was good, with one of its values another; where tame, often just as it was."""
        if not isinstance(body, dict | list) or not body or (self.tame and self.one_in(2)):
            return body if self.tame or isinstance(body, bytes) else self.pick(drawn(JUNK))
        made: Any = body.copy()
        key = self.pick(list(body) if isinstance(body, dict) else range(len(body)))
        known = self.ids(key) if isinstance(key, str) and isinstance(body[key], str) else []
        made[key] = self.pick(known) if known and self.one_in(2) else self.changed(body[key])
        return made

    def _plain(self, kind: str, schema: dict[str, Any]) -> Any:
        if kind in ("integer", "number"):
            low, high = int(schema.get("minimum", -2)), int(schema.get("maximum", 2**31))
            return self.pick(NUMBERS) if self.odd(3) else self.random.randint(low, max(low, high))
        return None if kind == "null" else self.pick((True, False))

    def _string(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        form = schema.get("format", "")
        if form == "uuid" or re.search(r"(^|_)(ids?|uuid|tenants?|project)$|Ref$|^id$", name):
            return self.ident(name)
        if hints(name) and not self.odd(4):
            return self.pick(hints(name))
        if form in ("ipv4", "ipv6", "cidr"):
            return self.pick(hints("cidr" if form == "cidr" else "ip"))
        if "pattern" in schema and not self.odd(4):
            return self.pick(of_pattern(schema["pattern"]))
        return self.pick(drawn(TEXT))

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        return [self.of(schema.get("items", {}), name, depth + 1) for _ in range(self.pick((1, 1, 1, 0, 2, 3)))]

    def _object(self, schema: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
        found, needed = {}, schema.get("required", ())
        properties = schema.get("properties", {})
        often = (6 if self.tame else 2) if len(properties) < 8 else (12 if self.tame else 4)
        for key, value in properties.items():
            if (key in needed and not self.odd(20)) or len(properties) == 1 or self.one_in(often):
                found[key] = self.of(value, key, depth + 1)
        patterns = schema.get("patternProperties", {})
        more = next(iter(patterns.values()), schema.get("additionalProperties") or {})
        if (patterns or more) and not (self.tame and needed) and not self.one_in(3):
            key = self.pick(of_pattern(next(iter(patterns))) if patterns else drawn(TEXT))
            found[key] = self.of(more, "", depth + 1)
        return found
