"""Who may import whom: main → handler → adapters and decisions → shared/domain, and no function another."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/Cargo.toml"))
# What does I/O, or makes others do it: the domain brings facts in as values.
IMPURE = re.compile(r"^(aws-|tokio$|hyper|lambda_runtime|reqwest$|mio$|socket2$|rustls)")


@pytest.fixture(scope="module")
def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def needs(metadata, name, *, development=True):
    """The names of all packages that a workspace member needs, directly or through others."""
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    (start,) = (one for one in metadata["workspace_members"] if names[one] == name)

    def below(identity, kinds):
        return [
            dep["pkg"] for dep in nodes[identity]["deps"] if any(kind["kind"] in kinds for kind in dep["dep_kinds"])
        ]

    # Tests of a crate may use more than the crate, but only its own tests run.
    ahead = below(start, {None, "build", "dev"} if development else {None, "build"})
    found = set()
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += below(one, {None, "build"})
    return {names[one] for one in found}


def test_there_are_the_four_functions():
    assert FUNCTIONS == ["artifact-checker", "event-relay", "pipeline-starter", "temp-access"]


def test_the_domain_needs_no_aws_crate_and_no_runtime(metadata):
    needed = needs(metadata, "sekisho-domain", development=False)
    assert "serde" in needed  # so that an empty answer is no pass
    assert not [name for name in needed if IMPURE.match(name)]


def test_functions_never_import_each_other_and_nothing_shared_imports_one(metadata):
    members = {
        package["name"]: package for package in metadata["packages"] if package["id"] in metadata["workspace_members"]
    }
    functions = {name for name, package in members.items() if "/functions/" in package["manifest_path"]}
    assert len(functions) == 4
    # A crate of tests alone may set functions beside each other.
    for name in (name for name, package in members.items() if f"{ROOT}/tests/" not in package["manifest_path"]):
        assert not (needs(metadata, name) & functions) - {name}, name


def test_aws_lc_is_not_built_in(metadata):
    for package in metadata["packages"]:
        assert not package["name"].startswith("aws-lc"), (
            "it costs 21 ms of CPU in the first TLS call: use rustls with ring"
        )


def modules(function):
    """The function's modules, each with the modules of its own crate that it names and whether it names an AWS crate."""
    found = {}
    for file in sorted((ROOT / "functions" / function / "src").rglob("*.rs")):
        # Tests may reach for anything.
        text = file.read_text().split("#[cfg(test)]")[0]
        name = (
            "lib"
            if file.name == "lib.rs"
            else file.relative_to(ROOT / "functions" / function / "src").parts[0].removesuffix(".rs")
        )
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
        imported = set(re.findall(r"\bcrate::(\w+)", code))
        # `use crate::{a::B, c};` names several at once.
        for group in re.findall(r"\bcrate::\{(.*?)\};", code, re.DOTALL):
            imported |= set(re.findall(r"(?:^|,)\s*(\w+)", re.sub(r"\{[^{}]*\}", "", group)))
        known = found.setdefault(name, {"imports": set(), "aws": False, "waits": False})
        known["imports"] |= imported
        known["aws"] |= bool(re.search(r"\baws_(sdk|smithy|config|types)", code))
        known["waits"] |= bool(re.search(r"\basync\b|\.await\b", code))
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_below_the_handler_imports_it(function):
    known = modules(function)
    below, ahead = set(), list(known["handler"]["imports"])
    while ahead:
        name = ahead.pop()
        if name in known and name not in below:
            below.add(name)
            ahead += known[name]["imports"]
    assert below
    for name in below:
        assert "handler" not in known[name]["imports"], f"{function}: {name} imports the handler, which imports it"


@pytest.mark.parametrize(
    ("function", "decision"),
    [
        ("artifact-checker", "verdict"),
        ("event-relay", "route"),
        ("pipeline-starter", "select"),
        ("temp-access", "grant"),
    ],
)
def test_a_decision_is_pure(function, decision):
    """It names no AWS crate and waits for nothing: facts come to it as values, and a plan goes out."""
    module = modules(function)[decision]
    assert not module["aws"] and not module["waits"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_main_is_thin(function):
    main = (ROOT / "functions" / function / "src" / "main.rs").read_text()
    assert len(main.splitlines()) <= 60, "main wires; what it knows belongs into the library"
