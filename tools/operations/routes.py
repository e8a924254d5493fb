"""The routes of a sekisho.toml, and their globs."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.failure import Failure
from tools.layout import CONFIG
from tools.operations.policy import Unclear


@dataclass(frozen=True)
class Route:
    """A route with one of its targets, and the settings of the target's wave if the route has waves.

    `repository` is of CodeCommit, or of ECR if `is_image` is set.
    """

    repository: str
    branches: tuple[str, ...]
    tags: tuple[str, ...]
    paths: tuple[str, ...]
    pipeline: str
    action: str
    # The region of the repositories, or `None` for every region.
    region: str | None = None
    existing: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    wave: str | None = None
    bake: str | None = None
    alarms: tuple[str, ...] = ()
    is_image: bool = False

    def __str__(self) -> str:
        parts = [
            f"{kind} {', '.join(globs)}" for kind in ("branches", "tags", "paths") if (globs := getattr(self, kind))
        ]
        parts += [f"{key} {value}" for key in ("region", "existing", "wave", "bake") if (value := getattr(self, key))]
        parts += [f"alarms {', '.join(self.alarms)}"] if self.alarms else []
        parts += [f"variable {name} {value}" for name, value in self.variables]
        kind = "image " if self.is_image else ""
        return f"{kind}{self.repository} ({'; '.join(parts)}) to action {self.action} of pipeline {self.pipeline}"

    @property
    def names_one_repository(self) -> bool:
        """Whether the route names one repository. Otherwise it has a glob, which may match no repository."""
        return not set(self.repository) & set("*?[{!\\")


def routes_to(account: str, region: str, text: str, source_region: str | None = None) -> list[Route]:
    """The routes of a sekisho.toml that lead to pipelines of an account and region.

    With `source_region`, routes whose repositories are in another region are left out.
    """
    try:
        return [
            Route(
                repository=route["image"] if "image" in route else route["repository"],
                branches=tuple(route.get("branches", ())),
                tags=tuple(route.get("tags", ())),
                paths=tuple(route.get("paths", ())),
                pipeline=target["pipeline"],
                action=target["action"],
                region=route.get("region"),
                existing=route.get("existing"),
                variables=tuple(sorted(target.get("variables", {}).items())),
                wave=wave.get("name"),
                bake=wave.get("bake"),
                alarms=tuple(wave.get("alarms", ())),
                is_image="image" in route,
            )
            for route in tomllib.loads(text).get("route", [])
            if source_region is None or route.get("region", source_region) == source_region
            for wave, target in _targets(route)
            if account in _one_or_more(target, "account", "accounts")
            and region in _one_or_more(target, "region", "regions")
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise Failure(
            f"The routes of {CONFIG.name} can't be read ({problem}): make deploy reports the place and the reason."
        ) from None


def _targets(route: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The targets of a route, each with its wave; in a route without waves, the wave is empty."""
    if "wave" not in route:
        yield from (({}, target) for target in route["target"])
        return
    for wave in route["wave"]:
        yield from ((wave, target) for target in wave["target"])


def _one_or_more(target: dict[str, Any], singular: str, plural: str) -> Sequence[str]:
    """The values of a key that is written either as one value or as a list."""
    more: Sequence[str] | None = target.get(plural)
    return [target[singular]] if more is None else more


def includes(globs: Sequence[str], name: str, *, folders: bool = True) -> bool:
    """Whether the last of the globs that matches the name includes it. A glob with `!` in front excludes."""
    for glob in reversed(globs):
        if matches(glob.removeprefix("!"), name, folders=folders):
            return not glob.startswith("!")
    return False


def matches(glob: str, name: str, *, folders: bool = True) -> bool:
    """Whether the glob matches the name, by the functions' rules: `**` matches `/`, but `*` and `?` do not.

    Without `folders`, as in the names of alarms, `*` and `?` match `/` as well.
    """
    if set(glob) & set("[]{}\\"):
        raise Unclear(f"the glob {glob} in {CONFIG.name}: check yourself whether it matches {name}")
    one = "[^/]" if folders else "."
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": f"{one}*", "?": one}
    pattern = "".join(parts.get(part, re.escape(part)) for part in re.findall(r"\*\*/|\*\*|.", glob))
    return re.fullmatch(pattern, name) is not None
