"""What a sekisho.toml routes to an account, and what its globs match."""

import re
import tomllib
from dataclasses import dataclass

from environment import ROOT, Refused
from policy import Unclear

CONFIG = ROOT / "config" / "sekisho.toml"


@dataclass(frozen=True)
class Route:
    """A route with one of its targets."""

    repository: str
    branches: tuple
    tags: tuple
    paths: tuple
    pipeline: str
    action: str

    def __str__(self):
        what = [f"{kind} {', '.join(values)}" for kind in ("branches", "tags", "paths") if (values := getattr(self, kind))]
        return f"{self.repository} ({'; '.join(what)}) to action {self.action} of pipeline {self.pipeline}"

    @property
    def one_repository(self):
        """Whether it names one repository: a glob is no promise that there is any."""
        return not set(self.repository) & set("*?[{!\\")


def leading_to(account, region, text):
    """The routes of a sekisho.toml that lead to pipelines of an account and region."""
    try:
        return [Route(route["repository"], *(tuple(route.get(key, ())) for key in ("branches", "tags", "paths")), target["pipeline"], target["action"])
                for route in tomllib.loads(text).get("route", []) for target in route["target"]
                if (target["account"], target["region"]) == (account, region)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"The routes of {CONFIG.name} can't be read ({type(error).__name__}: {error}): make deploy says where and why.") from None


def matches(glob, name):
    """As the functions match: `*` and `?` stop at `/`, `**` does not."""
    if set(glob) & set("[]{}\\"):
        raise Unclear(f"the glob {glob} in {CONFIG.name}: see yourself whether it matches {name}")
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pattern = "".join(parts.get(one, re.escape(one)) for one in re.findall(r"\*\*/|\*\*|.", glob))
    return re.fullmatch(pattern, name) is not None
