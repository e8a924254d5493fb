"""The parameters that template.yaml declares, and the value that an environment gives to each."""

from functools import cache
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from tools.layout import ROOT
from tools.operations.environment import Environment


@cache
def declared() -> dict[str, dict[str, Any]]:
    """The declarations of the parameters, by name."""
    found: dict[str, dict[str, Any]] = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    return found


def value(target: Environment, name: str) -> str:
    """The value of a parameter in an environment: the given one, or the template's default."""
    return str(target.parameters.get(name, declared()[name].get("Default", "")))
