"""The routes of a sekisho.toml, and their globs."""

import re
import tomllib
from dataclasses import dataclass

from tools.failure import Failure
from tools.layout import CONFIG
from tools.operations.policy import Unclear


@dataclass(frozen=True)
class Route:
    """A route with one of its targets."""

    repository: str
    branches: tuple[str, ...]
    tags: tuple[str, ...]
    paths: tuple[str, ...]
    pipeline: str
    action: str

    def __str__(self) -> str:
        parts = [
            f"{kind} {', '.join(globs)}" for kind in ("branches", "tags", "paths") if (globs := getattr(self, kind))
        ]
        return f"{self.repository} ({'; '.join(parts)}) to action {self.action} of pipeline {self.pipeline}"

    @property
    def names_one_repository(self) -> bool:
        """Whether the route names one repository. Otherwise it has a glob, which may match no repository."""
        return not set(self.repository) & set("*?[{!\\")


def routes_to(account: str, region: str, text: str) -> list[Route]:
    """The routes of a sekisho.toml that lead to pipelines of an account and region."""
    try:
        return [
            Route(
                repository=route["repository"],
                branches=tuple(route.get("branches", ())),
                tags=tuple(route.get("tags", ())),
                paths=tuple(route.get("paths", ())),
                pipeline=target["pipeline"],
                action=target["action"],
            )
            for route in tomllib.loads(text).get("route", [])
            for target in route["target"]
            if (target["account"], target["region"]) == (account, region)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise Failure(
            f"The routes of {CONFIG.name} can't be read ({problem}): make deploy reports the place and the reason."
        ) from None


def matches(glob: str, name: str) -> bool:
    """Whether the glob matches the name, by the functions' rules: `**` matches `/`, but `*` and `?` do not."""
    if set(glob) & set("[]{}\\"):
        raise Unclear(f"the glob {glob} in {CONFIG.name}: check yourself whether it matches {name}")
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pattern = "".join(parts.get(one, re.escape(one)) for one in re.findall(r"\*\*/|\*\*|.", glob))
    return re.fullmatch(pattern, name) is not None
