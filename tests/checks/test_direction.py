"""The layout of the functions, the direction of their imports, and the sizes of all sources; see layout_rules.py."""

import json
import re
import subprocess

import pytest

from tests.checks import layout_rules
from tests.checks.layout_rules import VERBS
from tests.checks.rust_source import Crate
from tools.checks import PYTHON
from tools.layout import BINARIES, ROOT

# Crates that do I/O or run futures. The domain needs none of them, because it gets facts as values.
IMPURE = re.compile(r"^(aws-|tokio$|hyper|lambda_runtime|reqwest$|mio$|socket2$|rustls)")
RUST = ("functions", "shared", "vendor", "tests", "bench")
MANIFESTS = sorted(file for folder in RUST for file in (ROOT / folder).rglob("Cargo.toml"))


@pytest.fixture(scope="module")
def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def needs(metadata, name, *, development=True):
    """Returns the names of all packages that a workspace member needs, directly or through other packages."""
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    (start,) = (one for one in metadata["workspace_members"] if names[one] == name)

    def below(identity, kinds):
        dependencies = nodes[identity]["deps"]
        return [one["pkg"] for one in dependencies if any(kind["kind"] in kinds for kind in one["dep_kinds"])]

    # A package's development dependencies are read only for the member itself, because only the member's tests run.
    ahead = below(start, {None, "build", "dev"} if development else {None, "build"})
    found = set()
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += below(one, {None, "build"})
    return {names[one] for one in found}


def test_the_four_functions_exist():
    assert sorted(VERBS) == sorted(BINARIES)
    assert sorted(VERBS) == sorted(file.parent.name for file in ROOT.glob("functions/*/Cargo.toml"))


def test_the_domain_needs_no_aws_crate_and_no_runtime(metadata):
    needed = needs(metadata, "sekisho-domain", development=False)
    assert "serde" in needed, "an empty answer would pass every check"
    assert not [name for name in needed if IMPURE.match(name)]


def test_the_domain_names_no_aws_crate_and_waits_for_nothing():
    assert list(layout_rules.pure_domain(ROOT / "shared" / "domain")) == []


def test_functions_never_need_each_other_and_nothing_shared_needs_one(metadata):
    members = {one["name"]: one for one in metadata["packages"] if one["id"] in metadata["workspace_members"]}
    functions = {name for name, package in members.items() if "/functions/" in package["manifest_path"]}
    assert len(functions) == len(VERBS)
    # A crate that contains only tests may use several functions.
    shipped = [name for name, package in members.items() if f"{ROOT}/tests/" not in package["manifest_path"]]
    for name in shipped:
        assert not (needs(metadata, name) & functions) - {name}, name


def test_aws_lc_is_not_built_in(metadata):
    for package in metadata["packages"]:
        assert not package["name"].startswith("aws-lc"), "aws-lc takes 21 ms of CPU in the first TLS call: use ring"


@pytest.mark.parametrize("function", VERBS)
def test_the_function_has_the_common_layout(function):
    folder = ROOT / "functions" / function
    # Without this check, a source reader that finds no modules would pass every rule.
    assert len(Crate(folder / "src").edges()) > len(layout_rules.SKELETON)
    found = [*layout_rules.layout(folder, VERBS[function])]
    found += layout_rules.no_imports_between_functions(folder, set(VERBS))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[str(file.parent.relative_to(ROOT)) for file in MANIFESTS])
def test_the_feature_testing_is_for_tests_only(manifest):
    assert list(layout_rules.testing_is_no_default(manifest)) == []


def test_no_source_file_and_no_function_is_too_long():
    rust = [file for folder in RUST for file in (ROOT / folder).rglob("*.rs")]
    python = [file for folder in PYTHON for file in (ROOT / folder).rglob("*.py")]
    assert min(len(rust), len(python)) > 50
    found = [violation for file in sorted([*rust, *python]) for violation in layout_rules.small(file)]
    assert not found, "\n".join(found)
