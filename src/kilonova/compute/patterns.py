"""Regular expressions that users write: Nova looks for them in names and addresses of servers, and names of flavors.

Python's try one way after another, and hold all other threads meanwhile: `(a+)+$` comes to no end on a long name, and with it
the whole cloud. So one that may have many ways is tried by a process of its own, which has a second.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kilonova.model.errors import BadRequest

PATIENCE = 1.0  # seconds
MOST_WAYS = 30_000_000  # a tenth of a second
PROGRAM = """
import json, re, sys
text, within = json.load(sys.stdin)
search = re.compile(text, re.IGNORECASE).search
print(json.dumps([search(each) is not None for each in within]))
"""


@dataclass(frozen=True)
class Pattern:
    """`name`: the query's parameter, for messages. BadRequest for a text that is no regular expression."""

    name: str
    text: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.text, re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise self._refused("It is not a 'regex'") from error

    def _refused(self, why: str) -> BadRequest:
        return BadRequest(f"Invalid input for query parameters {self.name}. Value: {self.text:.200}. {why}")

    def is_quick(self, texts: Sequence[str]) -> bool:
        """Whether there are few ways to try it in them: each repetition may end at any letter, and the search begin at any.
        Of groups that repeat none can tell."""
        places = 1 + sum(map(self.text.count, "*+?{"))
        return "(" not in self.text and places < 9 and sum(len(each) ** places for each in texts) <= MOST_WAYS

    def found_in(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether it is found in it, in whatever case. BadRequest when that takes too long."""
        if self.is_quick(texts):
            search = re.compile(self.text, re.IGNORECASE).search
            return [search(each) is not None for each in texts]
        command, asked = [sys.executable, "-ISc", PROGRAM], json.dumps([self.text, list(texts)])
        try:
            done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            raise self._refused("It takes too long to look for it: write it with fewer repetitions") from error
        found: list[bool] = json.loads(done.stdout)
        return found
