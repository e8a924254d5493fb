"""The settings of a reader's shell and home folder change no local command, and nothing of the reader's is written."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import build, machine
from tools.failure import Failure
from tools.git import DEVELOPER, Clone, git
from tools.layout import ROOT, tool
from tools.processes import run
from tools.surroundings import LOOPBACK, clean_environment, operator_environment


@pytest.fixture
def shell(monkeypatch):
    """A function that exports variables, as the reader's shell does."""

    def export(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return export


@pytest.fixture
def theirs(tmp_path):
    """A folder that belongs to the reader."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


@pytest.fixture
def their_repository(theirs):
    """A repository that belongs to the reader, with one commit."""
    git("init", "--quiet", "--initial-branch=main", theirs)
    (theirs / "theirs.txt").write_text("theirs\n")
    git("-C", theirs, "add", "theirs.txt")
    git("-C", theirs, "commit", "--quiet", "--message", "Theirs")
    return theirs


def contents(folder):
    """Returns every file below the folder with its bytes."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def write_program(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def work_with_git(folder):
    """Uses git as the demo does, and returns the remote and the clone."""
    remote = folder / "with space" / "shop.git"
    git("init", "--quiet", "--bare", "--initial-branch=main", remote)
    clone = Clone(remote, folder / "with space" / "shop")
    commit = clone.commit({"api/app.py": "1\n", "README.md": "read\n"}, branch="main")
    clone.push("main")
    assert git("--git-dir", remote, "rev-parse", "main") == commit
    assert git("--git-dir", remote, "ls-tree", "-r", "--name-only", "main").split() == ["README.md", "api/app.py"]
    assert git("--git-dir", remote, "show", "main:README.md") == "read"
    assert git("--git-dir", remote, "log", "--format=%an %G?") == f"{DEVELOPER} N"
    return remote, clone


GIT_SETTINGS = {
    "the repository": {"GIT_DIR": "{theirs}/.git"},
    "the repository and its files": {"GIT_DIR": "{theirs}/.git", "GIT_WORK_TREE": "{theirs}"},
    "the index": {"GIT_INDEX_FILE": "{theirs}/.git/index"},
    "the objects": {"GIT_OBJECT_DIRECTORY": "{theirs}/.git/objects"},
    "the common folder": {"GIT_COMMON_DIR": "{theirs}/.git"},
    "a namespace": {"GIT_NAMESPACE": "theirs"},
    "the object format": {"GIT_DEFAULT_HASH": "sha256"},
    "a template": {"GIT_TEMPLATE_DIR": "{template}"},
    "the global file": {"GIT_CONFIG_GLOBAL": "{config}"},
    "the system file": {"GIT_CONFIG_SYSTEM": "{config}", "GIT_CONFIG_NOSYSTEM": "0"},
    "settings by number": {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": "{template}/hooks",
        "GIT_CONFIG_KEY_1": "commit.gpgSign",
        "GIT_CONFIG_VALUE_1": "true",
    },
    "settings as parameters": {"GIT_CONFIG_PARAMETERS": "'core.hookspath'='{template}/hooks'"},
    "the author": {"GIT_AUTHOR_NAME": "Somebody", "GIT_AUTHOR_DATE": "no date"},
    "files in the home folder": {"HOME": "{home}", "XDG_CONFIG_HOME": "{home}/.config"},
}


@pytest.mark.parametrize("settings", GIT_SETTINGS.values(), ids=GIT_SETTINGS)
def test_git_settings_have_no_effect_and_the_readers_repository_stays_as_it_is(
    shell, tmp_path, their_repository, settings
):
    ran = tmp_path / "ran"
    template, home, config = tmp_path / "template", tmp_path / "home", tmp_path / "gitconfig"
    for hook in ("pre-commit", "post-checkout", "pre-push", "pre-receive", "post-receive"):
        write_program(template / "hooks" / hook, f"echo {hook} >> '{ran}'; exit 1")
    config.write_text(
        f"[core]\n\thooksPath = {template / 'hooks'}\n\tautocrlf = true\n[commit]\n\tgpgSign = true\n"
        f"[gpg]\n\tprogram = {write_program(tmp_path / 'gpg', f'echo gpg >> {ran}; exit 1')}\n"
        f"[init]\n\ttemplateDir = {template}\n[user]\n\tname = Somebody\n"
        f'[url "{their_repository}"]\n\tinsteadOf = {tmp_path / "with space" / "shop.git"}\n'
    )
    (home / ".config" / "git").mkdir(parents=True)
    shutil.copy(config, home / ".gitconfig")
    (home / ".config" / "git" / "ignore").write_text("*.py\n")
    (home / ".config" / "git" / "attributes").write_text("*.md text eol=crlf\n")
    before = contents(their_repository)
    places = {"theirs": their_repository, "template": template, "config": config, "home": home}
    shell(**{name: value.format(**places) for name, value in settings.items()})
    work_with_git(tmp_path)
    assert contents(their_repository) == before
    assert not ran.exists(), f"these ran: {ran.read_text()}"


def test_git_in_a_damaged_clone_does_not_use_the_repository_around_it(their_repository, tmp_path):
    remote = tmp_path / "shop.git"
    git("init", "--quiet", "--bare", remote)
    clone = Clone(remote, their_repository / "shop")
    shutil.rmtree(clone.folder / ".git")
    before = contents(their_repository)
    with pytest.raises(Failure, match="not a git repository"):
        clone.commit({"a": "1"})
    assert {file: data for file, data in contents(their_repository).items() if file.name != "a"} == before


def python_package(folder):
    """Makes a wheel, and a requirements file that names the wheel."""
    folder.mkdir()
    about = "sekisho_probe-1.0.dist-info"
    with zipfile.ZipFile(folder / "sekisho_probe-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sekisho_probe.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: sekisho-probe\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "sekisho_probe.py,,\n")
    (folder / "requirements.txt").write_text("sekisho-probe==1.0\n")
    return folder


def test_pip_installs_into_the_projects_folder(shell, monkeypatch, tmp_path, theirs):
    packages, home, broken = python_package(tmp_path / "packages"), tmp_path / "home", tmp_path / "broken"
    (home / ".config" / "pip").mkdir(parents=True)
    # pip must use one setting of this file, `find-links`, as on a machine with its own registry, and ignore all others.
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\nfind-links = {packages}\ndry-run = true\n"
        f"[install]\ntarget = {theirs}\nuser = true\nprefix = {theirs}\nroot = {theirs}\n"
    )
    broken.mkdir()
    (broken / "sitecustomize.py").write_text("raise SystemExit('a module of the reader')\n")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    shell(HOME=home, XDG_CONFIG_HOME=home / ".config", PIP_NO_INDEX="1")
    shell(PIP_TARGET=theirs, PIP_USER="1", PIP_DRY_RUN="1", PIP_CONSTRAINT="/nonexistent", PIP_REQUIRE_HASHES="1")
    shell(PYTHONPATH=broken, PYTHONHOME=theirs, PYTHONOPTIMIZE="2", PYTHONUSERBASE=theirs, PYTHONWARNINGS="error")
    monkeypatch.setattr(machine, "VENV", tmp_path / "with space" / ".venv")
    monkeypatch.setattr(machine, "REQUIREMENTS", packages / "requirements.txt")
    monkeypatch.setattr(machine, "LOGS", tmp_path)
    machine._install_python_packages()
    assert list((tmp_path / "with space").rglob("sekisho_probe.py")), (tmp_path / "pip.log").read_text()
    assert list(theirs.iterdir()) == []


def test_npm_installs_into_the_projects_folder(shell, monkeypatch, tmp_path, theirs):
    project, home = tmp_path / "with space" / "project", tmp_path / "home"
    for folder in (project / "probe", home):
        folder.mkdir(parents=True)
    needs = {"name": "project", "devDependencies": {"probe": "file:probe"}}
    link = {"node_modules/probe": {"resolved": "probe", "link": True}, "probe": {"version": "1.0.0", "dev": True}}
    lock = {"name": "project", "lockfileVersion": 3, "requires": True, "packages": {"": needs} | link}
    script = {"postinstall": f"touch '{theirs}/ran'"}
    (project / "package.json").write_text(json.dumps(needs | {"scripts": script}))
    (project / "probe" / "package.json").write_text(json.dumps({"name": "probe", "version": "1.0.0"}))
    (project / "package-lock.json").write_text(json.dumps(lock))
    (home / ".npmrc").write_text(f"global=true\nomit=dev\ndry-run=true\nprefix={theirs}\n")
    shell(HOME=home, NODE_ENV="production", NODE_OPTIONS="--require /nonexistent.js")
    shell(npm_config_global="true", NPM_CONFIG_PREFIX=theirs, npm_config_omit="dev", npm_config_dry_run="true")
    monkeypatch.setattr(machine, "ROOT", project)
    monkeypatch.setattr(machine, "LOGS", tmp_path)
    machine._install_node_packages()
    assert (project / "node_modules" / "probe" / "package.json").is_file()
    assert list(theirs.iterdir()) == []


def test_cargo_builds_in_the_projects_folder_without_the_readers_flags(shell, tmp_path, theirs):
    described = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    shell(CARGO_TARGET_DIR=theirs, CARGO_BUILD_TARGET_DIR=theirs)
    found = json.loads(run("Asking cargo", described, tmp_path / "metadata", cwd=ROOT))
    assert found["target_directory"] == str(ROOT / "target")

    crate, wrapper = tmp_path / "crate", write_program(tmp_path / "wrapper", f"touch '{theirs}/ran'; exit 1")
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text('[package]\nname = "probe"\nversion = "1.0.0"\nedition = "2021"\n')
    (crate / "src" / "main.rs").write_text("#[cfg(theirs)]\ncompile_error!();\nfn main() {}\n")
    # Cargo reads the configuration files of all folders above the crate, and of the home folder.
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / "config.toml").write_text(
        f'[build]\nrustc-wrapper = "{wrapper}"\nrustflags = ["--cfg", "theirs"]\n'
    )
    shell(RUSTC_WRAPPER=wrapper, RUSTC_WORKSPACE_WRAPPER=wrapper, RUSTC=wrapper, RUSTFLAGS="--cfg theirs")
    shell(CARGO_ENCODED_RUSTFLAGS="--cfg\x1ftheirs", CARGO_BUILD_TARGET="none", CARGO_PROFILE_DEV_OPT_LEVEL="none")
    env = clean_environment(CARGO_TARGET_DIR=str(tmp_path / "target"))
    run("Building", ["cargo", "build", "--offline"], tmp_path / "build", cwd=crate, env=env)
    assert (tmp_path / "target" / "debug" / "probe").is_file()
    assert list(theirs.iterdir()) == []


def test_the_registry_can_still_be_reached(shell):
    kept = {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/ca.pem",
        "NODE_EXTRA_CA_CERTS": "/ca.pem",
        "PIP_INDEX_URL": "https://registry.example/simple",
        "PIP_CERT": "/ca.pem",
        "npm_config_registry": "https://registry.example/npm",
        "npm_config_//registry.example/npm/:_authToken": "token",
        "CARGO_HTTP_CAINFO": "/ca.pem",
        "CARGO_REGISTRIES_OURS_INDEX": "sparse+https://registry.example/",
        "CARGO_HOME": "/cargo",
    }
    shell(**kept, no_proxy="registry.example")
    clean = clean_environment()
    assert {name: clean.get(name) for name in kept} == kept
    assert clean["NO_PROXY"] == clean["no_proxy"] == f"registry.example,{LOOPBACK}"


def test_a_command_on_real_accounts_keeps_the_persons_credentials_only(shell, theirs):
    kept = {"AWS_PROFILE": "me", "AWS_CA_BUNDLE": "/ca.pem", "SSH_AUTH_SOCK": "/agent", "GITHUB_TOKEN": "token"}
    shell(**kept, SAMCONFIG="mine.toml", CARGO_TARGET_DIR=theirs, RUSTFLAGS="--cfg theirs", GIT_DIR=theirs)
    shell(PYTHONPATH=theirs, SAM_CLI_CONFIG_FILE=theirs, SAM_CLI_TELEMETRY="1", MAKEFLAGS="-n", ENV="~/.shrc")
    found = operator_environment()
    assert {name: found.get(name) for name in (*kept, "SAMCONFIG")} == kept | {"SAMCONFIG": "mine.toml"}
    assert found["CARGO_TARGET_DIR"] == str(ROOT / "target")
    assert (found["RUSTFLAGS"], found["SAM_CLI_TELEMETRY"]) == ("", "0")
    assert not {"GIT_DIR", "PYTHONPATH", "SAM_CLI_CONFIG_FILE", "MAKEFLAGS", "ENV"} & found.keys()


def make(*arguments, **variables):
    """Runs make in a shell that exports these variables."""
    command = ["make", "--no-print-directory", *arguments]
    env = clean_environment() | variables
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        {"PYTHONHOME": "/nonexistent"},
        {"PYTHONPATH": "{broken}"},
        {"PYTHONPLATLIBDIR": "nonexistent"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_make_starts_with_every_setting_for_python(tmp_path, variables):
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('a module of the reader')\n")
    for name in ("argparse", "pathlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the reader')\n")
    done = make("help", **{name: value.format(broken=tmp_path) for name, value in variables.items()})
    assert done.returncode == 0, done.stderr
    assert "make demo" in done.stdout


def test_make_takes_its_variables_from_its_command_line_only():
    exported = dict.fromkeys(("ENV", "PROFILE", "ROLE", "USER"), "theirs") | {
        "PORT": "8080",
        "WRITE": "1",
        "EMPTY": "1",
    }
    for target in ("up", "deploy", "doctor", "prepare", "redrive", "clean-start"):
        done = make("-n", target, **exported)
        assert done.stdout.rstrip().endswith(f"tools {target}"), done.stdout
    done = make("-n", "prepare", "USER=hana", "ENV=test", "PROFILE=me", **exported)
    assert done.stdout.rstrip().endswith('tools prepare --env "test" --profile "me" --user "hana"')
    assert make("-n", "up", "PORT=4566", **exported).stdout.rstrip().endswith('tools up --port "4566"')
    assert make("-n", "up", "EMPTY=1", **exported).stdout.rstrip().endswith("tools up  --empty")


def test_a_strict_umask_makes_no_file_that_lambda_cannot_read(monkeypatch, tmp_path):
    text = "import os; os.umask(0o077); from tools.surroundings import *; adopt(clean_environment()); open('made', 'x')"
    subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644

    # A checkout under a strict umask has such a file. sam packs each file of the layer with its permissions, so the
    # build must make the file readable.
    layer = tmp_path / "config"
    layer.mkdir()
    (layer / "sekisho.toml").touch(0o600)
    monkeypatch.setattr(build, "CONFIG", layer / "sekisho.toml")
    build.make_layer_readable()
    assert (layer / "sekisho.toml").stat().st_mode & 0o777 == 0o644


SAM_TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters: {Architecture: {Type: String}}
Resources:
  Probe:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: rust-cargolambda}
    Properties: {CodeUri: probe, Handler: bootstrap, Runtime: provided.al2023, Architectures: [!Ref Architecture]}
"""


def test_sam_builds_in_a_folder_with_spaces_and_takes_no_setting_that_is_meant_for_other_commands(
    shell, tmp_path, theirs
):
    project = tmp_path / "it's here"
    (project / "probe" / "src").mkdir(parents=True)
    (project / "template.yaml").write_text(SAM_TEMPLATE)
    (project / "probe" / "Cargo.toml").write_text('[package]\nname = "probe"\nversion = "1.0.0"\nedition = "2021"\n')
    (project / "probe" / "src" / "main.rs").write_text("fn main() {}\n")
    settings = f'[default.build.parameters]\nuse_container = true\nbuild_dir = "{theirs}/build"\n'
    (project / "samconfig.toml").write_text(f"version = 0.1\n{settings}")
    (theirs / "theirs.toml").write_text(f"version = 0.1\n{settings.replace('default', 'local')}")
    shell(SAM_CLI_CONFIG_FILE=theirs / "theirs.toml", SAM_CONFIG_FILE=theirs / "theirs.toml", SAM_CLI_BUILD_DIR=theirs)
    shell(SAM_CLI_USE_CONTAINER="1", SAM_CLI_DEBUG="1", AWS_PROFILE="nobody", AWS_DEFAULT_REGION="nowhere")
    shell(RUSTFLAGS="--theirs", RUSTC_WRAPPER="/nonexistent", CARGO_TARGET_DIR=theirs)
    env = build.environment(CARGO_TARGET_DIR=str(project / "target"))
    run("Building", build.sam_build_command(), tmp_path / "log", cwd=project, env=env)
    assert (project / ".aws-sam" / "build" / "Probe" / "bootstrap").is_file()
    assert [file.name for file in theirs.iterdir()] == ["theirs.toml"]


def test_the_projects_programs_come_first(shell, tmp_path):
    write_program(tmp_path / "sam", "exit 1")
    shell(PATH=f"{tmp_path}:{os.environ['PATH']}", VIRTUAL_ENV=str(tmp_path))
    env = build.environment()
    assert Path(shutil.which("sam", path=env["PATH"]) or "") == tool("sam")
    assert "VIRTUAL_ENV" not in env
