"""An operator's policy.yaml: read, judged, put in place of OpenStack's defaults, and read again when it has changed.

One file for the whole cloud, in oslo.policy's language, by the names of OpenStack's own services.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.model.errors import KilonovaError
from kilonova.web.checks import BadCheck, Book, text_of_lists
from kilonova.web.policy import ALIASES, Rules
from kilonova.web.service import Service

log = logging.getLogger(__name__)
BIGGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class Entry:
    line: int
    text: str


class PolicyFile:
    """The rules of `services` with those of the file in their place; a file that is not there changes nothing.

    KilonovaError at once for a file that cannot be. One that goes bad later, or away, changes nothing until it is good
    again: what holds is what was read last, and the log says why.
    """

    def __init__(self, path: Path, services: Iterable[Service]) -> None:
        self.path, self.services = path, tuple(services)
        self.rules = {service.prefix: Rules(service, {}) for service in self.services}
        self.stamp = self._stamp()
        if self.stamp:
            self.rules = read(path, self.services)

    def of(self, service: Service) -> Rules:
        stamp = self._stamp()
        if stamp != self.stamp:
            self.stamp = stamp
            self._again()
        return self.rules[service.prefix]

    def _stamp(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another; None when there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _again(self) -> None:
        if self.stamp is None:
            log.warning("%s is gone; its rules hold on until kilonova starts anew", self.path)
            return
        try:
            self.rules = read(self.path, self.services)
            log.info("the rules of %s hold from now on", self.path)
        except KilonovaError as error:
            log.error("%s; the rules from before it changed hold on", error)


def read(path: Path, services: Iterable[Service]) -> dict[str, Rules]:
    """By service. KilonovaError names the file's line and rule."""
    entries = dict(_entries(path))
    lines = {service.rule_name(name): (service, name) for service in services for name in service.policy}
    defaults = {full: service.policy[name] for full, (service, name) in lines.items()}
    texts = {name: entry.text for name, entry in entries.items()}
    book = Book(ALIASES | {name: rule.text for name, rule in defaults.items()} | texts)
    for name, entry in entries.items():
        try:
            found = book[name]
        except (BadCheck, RecursionError) as error:
            raise KilonovaError(f"{path}, line {entry.line}: {name}: {error}") from error
        if name in lines and (unknown := sorted(found.asks - _told(*lines[name]))):
            what = {"user_id": "a user"}.get(unknown[0], "such a thing")
            raise KilonovaError(
                f"{path}, line {entry.line}: {name}: %({unknown[0]})s is asked, and nothing that it guards has {what} here"
            )
    _refuse_strangers(path, entries, lines.keys(), book)
    changed = {name for name, rule in defaults.items() if name in entries or rule.names & entries.keys()}
    parts = {full: book[full] for full, (of, name) in lines.items() if full in changed and name in of.parts}
    is_admin = book["context_is_admin"] if "context_is_admin" in entries else None
    return {
        service.prefix: Rules(
            service,
            {name: book[full] for full, (of, name) in lines.items() if of is service and full in changed},
            is_admin,
            parts,
        )
        for service in services
    }


def _refuse_strangers(path: Path, entries: Mapping[str, Entry], known: Iterable[str], book: Book) -> None:
    """A name that guards nothing here, and that no other rule names, would be a promise that nobody keeps."""
    named = {named for name in entries for named in book[name].names}
    for name, entry in entries.items():
        if name not in known and name not in ALIASES and name not in named and name != "default":
            raise KilonovaError(
                f"{path}, line {entry.line}: {name}: no operation of this cloud asks this rule, and no other rule of the "
                "file does; `kilonova policy list` tells those there are"
            )


def _told(service: Service, name: str) -> set[str]:
    """What a rule in this place may ask: whose project, beside what the default asks; and whose user, where each operation
    that it guards is on rows that have one. A part of a request has no row."""
    told = {"project_id", "domain_id", *service.policy[name].asks}
    paths = [key.split()[1] for key, asked in service.operations() if asked == name]
    of_users = (path.replace("/{project_id}", "").startswith(service.users_rows or ("-",)) for path in paths)
    return told | ({"user_id"} if name not in service.parts and all(of_users) else set())


def _entries(path: Path) -> Iterator[tuple[str, Entry]]:
    import yaml  # for an operator with a file alone: 3 MiB

    try:
        raw = path.read_bytes()
        if len(raw) > BIGGEST:
            raise KilonovaError(f"{path} has more than {BIGGEST} bytes")
        root = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise KilonovaError(f"{path}, line {line}: this is no YAML: {error.problem}") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise KilonovaError(f"{path} cannot be read: {error}") from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise KilonovaError(f'{path}, line 1: a policy file has lines such as "compute:name": "role:member"')
    seen = set()
    for key, value in root.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if name in seen:
            raise KilonovaError(f"{path}, line {line}: {name}: the file has another rule of this name")
        seen.add(name)
        try:
            yield name, Entry(line, _text(value))
        except BadCheck as error:
            raise KilonovaError(f"{path}, line {line}: {name}: {error}") from error


def _text(node: Any) -> str:
    """A rule's text. BadCheck for what YAML takes for something else than a text: a bare `!` is a tag to it."""
    if node.id == "sequence":
        return text_of_lists(_plain(node))
    if node.id != "scalar" or node.tag != "tag:yaml.org,2002:str":
        raise BadCheck('a rule is a text in quotes, such as "role:member", or "!" for nobody')
    return str(node.value)


def _plain(node: Any, deep: int = 0) -> Any:
    if node.id == "sequence" and deep < 2:
        return [_plain(each, deep + 1) for each in node.value]
    return _text(node)


def table(rules: Mapping[str, Rules], services: Iterable[Service]) -> Iterator[tuple[str, str, str, str, str]]:
    """(service, operation, rule's name, default, what holds) of each operation, for people."""
    for service in services:
        own = rules[service.prefix]
        for operation, name in service.operations():
            if service.prefix == "volume" and "/{project_id}" in operation:
                continue  # the same operation by its older address
            if not name:
                yield service.prefix, operation, "-", "no token needed", "no token needed"
                continue
            yield service.prefix, operation, service.rule_name(name), service.policy[name].text, own[name].text
        for name, operation in service.parts.items():
            told = f"{operation} (part of it)"
            yield service.prefix, told, service.rule_name(name), service.policy[name].text, own[name].text


def named(path: Path, services: Iterable[Service]) -> Iterator[tuple[str, str, str, str, str]]:
    """The same of the rules that others name, with which each line of the table can be read to its end."""
    texts = {name: entry.text for name, entry in _entries(path)} if path.exists() else {}
    lines = {service.rule_name(name) for service in services for name in service.policy}
    for name in dict.fromkeys([*ALIASES, *texts]):
        if name not in lines and name != "default":
            default = ALIASES.get(name, "-")
            yield "-", "named by other rules", name, default, texts.get(name, default)
