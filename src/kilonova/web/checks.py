"""oslo.policy's language, compiled into functions: `role:member and project_id:%(project_id)s`.

https://docs.openstack.org/oslo.policy/latest/admin/policy-yaml-file.html. What is here: `role:`, `rule:`, attributes of
who asks against a word or a `%(name)s` of what is asked for, `@`, `!`, the empty text (anyone), `not`, `and`, `or`,
parentheses, and the older lists of lists. What is not (`http:`, `field:`, other `%(names)s`) is an error, never ignored.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kilonova.model.errors import KilonovaError
from kilonova.web.call import Context

Target = Mapping[str, Any]
Check = Callable[[Context, Target], bool]

TOKEN = re.compile(r"\s*(\(|\)|(?:%\([^()\s]*\)s|[^\s()])+)")
OF_TARGET = re.compile(r"%\(([^()\s]*)\)s")
DEEPEST = 50  # parentheses, and rules that name rules

# What a rule may ask of who asks: oslo.policy's credentials, by its names. "" is no answer, and equals nothing.
CREDENTIALS: dict[str, Callable[[Context], str]] = {
    "user_id": lambda who: who.user_id,
    "user_domain_id": lambda who: who.user_domain_id,
    "project_id": lambda who: who.project_id,
    "tenant_id": lambda who: who.project_id,
    "project_domain_id": lambda who: who.project_domain_id,
    "domain_id": lambda who: who.domain_id,
    "token.domain.id": lambda who: who.domain_id,
    "system_scope": lambda who: "all" if who.system else "",
    "is_admin": lambda who: str(who.is_admin),
    "is_admin_project": lambda who: "True",  # there is no such project, so each is (Keystone: admin_project_name)
}
# What it may ask of what is asked for: whose it is; of a port, whose network it is on.
ASKED = ("project_id", "tenant_id", "user_id", "domain_id", "network:project_id", "network:tenant_id")


class BadCheck(KilonovaError):
    """`str()` says what is wrong with a rule's text, without its name."""


class Rule:
    """`rule(who asks, target)`. `text`: as in a policy file; `asks`: which of ASKED it looks at; `names`: rules it leads to.

    What the target does not say is the caller's own: an operation that names no row acts on the caller's own scope
    (Nova: the default target of `context.can`).
    """

    __slots__ = ("asks", "check", "names", "text")

    def __init__(self, text: str, check: Check, asks: frozenset[str], names: frozenset[str]) -> None:
        self.text, self.check, self.asks, self.names = text, check, asks, names

    def __call__(self, context: Context, target: Target) -> bool:
        return self.check(context, target)

    def __repr__(self) -> str:
        return f"Rule({self.text!r})"


class Book:
    """Rules by name that may name each other (`rule:x`), compiled as they are asked for. KeyError: there is none."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self.rules: dict[str, Rule] = {}
        self.under_way: list[str] = []

    def __getitem__(self, name: str) -> Rule:
        if name not in self.rules:
            text = self.texts[name]
            if name in self.under_way or len(self.under_way) > DEEPEST:
                raise BadCheck(f"it leads back to itself: {' → '.join([*self.under_way, name])}")
            self.under_way.append(name)
            try:
                self.rules[name] = self.compile(text)
            finally:
                self.under_way.pop()
        return self.rules[name]

    def compile(self, text: str) -> Rule:
        parser = Parser(text, self)
        return Rule(text, parser.whole(), frozenset(parser.asks), frozenset(parser.names))


class Parser:
    """or_text = and_text {"or" and_text}; and_text = not_text {"and" not_text}; not_text = ["not"] (check | "(" … ")")."""

    def __init__(self, text: str, book: Book) -> None:
        self.tokens = TOKEN.findall(text)
        if "".join(self.tokens) != "".join(text.split()):
            raise BadCheck(f"{text!r} cannot be read")
        self.book = book
        self.asks: set[str] = set()
        self.names: set[str] = set()
        self.place = self.depth = 0

    def whole(self) -> Check:
        if not self.tokens:
            return always
        found = self.either()
        if self.place < len(self.tokens):
            raise BadCheck(f"{self.tokens[self.place]!r} was not expected where it stands")
        return found

    def took(self, word: str) -> bool:
        taken = self.place < len(self.tokens) and self.tokens[self.place].lower() == word
        self.place += taken
        return taken

    def either(self) -> Check:
        parts = [self.both()]
        while self.took("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda who, what: any(part(who, what) for part in parts)

    def both(self) -> Check:
        parts = [self.one()]
        while self.took("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else lambda who, what: all(part(who, what) for part in parts)

    def one(self) -> Check:
        if self.took("not"):
            inner = self.one()
            return lambda who, what: not inner(who, what)
        if self.took("("):
            self.depth += 1
            if self.depth > DEEPEST:
                raise BadCheck(f"it has parentheses more than {DEEPEST} deep")
            inner = self.either()
            if not self.took(")"):
                raise BadCheck("a parenthesis is not closed")
            self.depth -= 1
            return inner
        if self.place == len(self.tokens):
            raise BadCheck("it ends where a check was expected")
        self.place += 1
        return self.check(self.tokens[self.place - 1])

    def check(self, token: str) -> Check:
        if token in ("@", "!"):
            return always if token == "@" else never
        kind, colon, match = token.rpartition(":") if token.startswith("token.") else token.partition(":")
        if not colon or not kind or not match:
            raise BadCheck(f"{token!r} is no check: write it as role:member")
        if kind == "rule":
            return self.named(match)
        if kind == "role":
            return role(match)
        return self.attribute(kind, match)

    def named(self, name: str) -> Check:
        try:
            rule = self.book[name]
        except KeyError:
            raise BadCheck(f"there is no rule {name!r}") from None
        self.asks |= rule.asks
        self.names |= {name, *rule.names}
        return rule.check

    def attribute(self, kind: str, match: str) -> Check:
        mine = CREDENTIALS.get(kind)
        if mine is None:
            raise BadCheck(f"{kind}: is not known; what may be asked is role, rule, {', '.join(CREDENTIALS)}")
        found = OF_TARGET.fullmatch(match)
        if found is None:
            if "%" in match:
                raise BadCheck(f"{match!r} cannot be read: write it as %(project_id)s")
            word = "True" if kind.startswith("is_admin") and match == "1" else match
            return lambda who, what: mine(who) == word
        name = found[1]
        if name not in ASKED:
            raise BadCheck(
                f"%({name})s is not known; what may be asked is {', '.join(f'%({each})s' for each in ASKED)}"
            )
        key = name.replace("tenant_id", "project_id")
        self.asks.add(key)
        own = CREDENTIALS.get(key, nothing)

        def same(who: Context, what: Target) -> bool:
            value = mine(who)
            return bool(value) and value == (what[key] if key in what else own(who))

        return same


def nothing(who: Context) -> str:
    return ""


def always(who: Context, what: Target) -> bool:
    return True


def never(who: Context, what: Target) -> bool:
    return False


def role(name: str) -> Check:
    """Roles are told apart whatever their case, as Keystone tells them."""
    if "%" in name:
        raise BadCheck(f"role:{name}: only a role's name can follow")
    wanted = name.lower()
    return lambda who, what: wanted in who.roles or any(each.lower() == wanted for each in who.roles)


def text_of_lists(lists: list[Any]) -> str:
    """oslo.policy's older form: `[["role:admin"], ["rule:a", "rule:b"]]` is role:admin or (rule:a and rule:b)."""
    if not lists:
        return "@"
    parts = [inner if isinstance(inner, list) else [inner] for inner in lists]
    if not all(inner and all(isinstance(each, str) and each.strip() for each in inner) for inner in parts):
        raise BadCheck("a list of rules holds texts, or lists of texts")
    return " or ".join("(" + " and ".join(f"({each})" for each in inner) + ")" for inner in parts)
