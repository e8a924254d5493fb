"""`make up` and `make demo` use the release binaries of the same sources, or build the profile for local use."""

import re
from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse

from tools import build
from tools.layout import CONFIG, FUNCTIONS, ROOT
from tools.local_stack import local_build
from tools.processes import run


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the sources' names in a folder of its own, with release binaries of these sources."""
    (tmp_path / "functions" / "relay" / "src").mkdir(parents=True)
    (tmp_path / "functions" / "relay" / "tests").mkdir()
    for file in ("Cargo.toml", "Cargo.lock", "functions/relay/src/main.rs", "functions/relay/tests/main.rs"):
        (tmp_path / file).write_text("1")
    built = tmp_path / ".aws-sam" / "build"
    for name in FUNCTIONS:
        (built / name).mkdir(parents=True)
        (built / name / "bootstrap").write_text(f"release {name}")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "BUILD", built)
    monkeypatch.setattr(build, "DIGEST", built / "sources.sha256")
    monkeypatch.setattr(build, "SOURCES", ("Cargo.toml", "Cargo.lock", "functions"))
    build.DIGEST.write_text(build.digest_of_sources())
    monkeypatch.setattr(local_build, "ROOT", tmp_path)
    monkeypatch.setattr(local_build, "BUILD", built)
    monkeypatch.setattr(local_build, "FOLDER", tmp_path / ".aws-sam" / "local")
    monkeypatch.setattr(local_build, "LOCAL", tmp_path / ".local")
    return tmp_path


@pytest.fixture
def cargo(project, monkeypatch):
    """The commands that ran instead of cargo. Each writes the binaries of the profile."""
    commands = []

    def record(title, command, *_, **__):
        commands.append([str(word) for word in command])
        profile = project / "target" / "local"
        profile.mkdir(parents=True, exist_ok=True)
        for binary in FUNCTIONS.values():
            (profile / binary).write_text(f"local {binary}")
        return title

    monkeypatch.setattr(local_build, "check_config", lambda: None)
    monkeypatch.setattr(local_build, "run", record)
    return commands


def deployed(template: Path) -> dict[str, str]:
    """The content of the binary of each function that the template deploys."""
    resources = yaml_parse(template.read_text())["Resources"]
    return {
        name: (template.parent / resources[name]["Properties"]["CodeUri"] / "bootstrap").read_text()
        for name in FUNCTIONS
    }


def test_release_binaries_of_the_same_sources_are_used(cargo):
    assert deployed(local_build.build_for_local_use()) == {name: f"release {name}" for name in FUNCTIONS}
    assert cargo == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "functions" / "relay" / "src" / "main.rs").write_text("2"),
        lambda root: (root / "functions" / "relay" / "src" / "new.rs").write_text(""),
        lambda root: (root / "functions" / "relay" / "src" / "main.rs").rename(root / "functions" / "main.rs"),
        lambda root: (root / "Cargo.lock").write_text("2"),
        lambda root: (root / ".aws-sam" / "build" / "TempAccess" / "bootstrap").unlink(),
        lambda root: (root / ".aws-sam" / "build" / "sources.sha256").unlink(),
    ],
    ids=["changed", "added", "moved", "other dependencies", "a binary is missing", "sam ended early"],
)
def test_other_release_binaries_are_not_used(project, cargo, spoil):
    spoil(project)
    assert deployed(local_build.build_for_local_use()) == {name: f"local {file}" for name, file in FUNCTIONS.items()}
    assert cargo == [["cargo", "build", "--profile", "local", "--bins"]]


def test_a_change_of_a_test_needs_no_build(project, cargo):
    (project / "functions" / "relay" / "tests" / "main.rs").write_text("2")
    local_build.build_for_local_use()
    assert cargo == []


@pytest.mark.usefixtures("cargo")
def test_only_the_paths_differ_in_the_deployed_template():
    written = yaml_parse(local_build.build_for_local_use().read_text())
    template = yaml_parse((ROOT / "template.yaml").read_text())
    layer = written["Resources"]["Config"]["Properties"]
    assert layer["ContentUri"] == str(CONFIG.parent)
    layer["ContentUri"] = "config/"
    for name in FUNCTIONS:
        assert written["Resources"][name]["Properties"].pop("CodeUri") == name
    assert written == template


def test_a_release_build_records_its_sources(project, monkeypatch):
    build.DIGEST.unlink()
    monkeypatch.setattr(build, "check_config", lambda: None)
    source = project / "functions" / "relay" / "src" / "main.rs"
    monkeypatch.setattr(build, "run", lambda *_, **__: source.write_text("2"))
    before = build.digest_of_sources()
    build.build()
    assert build.release_digest() == before, "what changed during the build may be in no binary"
    assert build.release_digest() != build.digest_of_sources()


def test_people_see_how_far_cargo_is(tmp_path, monkeypatch, capsys):
    for name, more in (("one", ""), ("two", 'one = {path = "../one"}\n')):
        (tmp_path / name / "src").mkdir(parents=True)
        manifest = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n\n[dependencies]\n{more}'
        (tmp_path / name / "Cargo.toml").write_text(manifest)
    (tmp_path / "one" / "src" / "lib.rs").write_text("")
    # The build waits, so that it still runs when somebody looks.
    (tmp_path / "two" / "build.rs").write_text("fn main() { std::thread::sleep(std::time::Duration::from_secs(1)) }")
    (tmp_path / "two" / "src" / "main.rs").write_text("fn main() {}")
    profile = (ROOT / "Cargo.toml").read_text().partition("[profile.local]")[2].partition("\n[")[0]
    with (tmp_path / "two" / "Cargo.toml").open("a") as manifest:
        manifest.write(f"\n[profile.local]{profile}")
    monkeypatch.setattr("tools.console.REPORT_SECONDS", 0)
    env = build.environment(CARGO_TARGET_DIR=str(tmp_path / "target"), **local_build.BAR)
    command = local_build.build_command()
    run("Building", command, tmp_path / "log", cwd=tmp_path / "two", env=env, progress=local_build.crates_done)
    assert (tmp_path / "target" / "local" / "two").is_file()
    assert re.search(r"^Building: \d of 4 crates: .*two", capsys.readouterr().out, flags=re.MULTILINE)


def test_a_line_without_a_count_says_nothing():
    assert local_build.crates_done("   Compiling ring v0.17.14") == ""
    assert local_build.crates_done("    Building [==>     ] 12/227: ring, syn(build)  ") == (
        "12 of 227 crates: ring, syn(build)"
    )
