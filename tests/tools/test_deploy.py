"""`make deploy`, `prepare` and `redrive` fail early with reason and solution; `deploy` prints the next steps."""

import os

import pytest

from tests.tools.faults import R, T
from tests.tools.runner import run, write_config
from tools.layout import ROOT
from tools.operations.deploy import next_steps
from tools.operations.environment import environment


def test_prepare_names_the_person_who_may_run_it(config_of_deployer, tmp_path):
    text = (ROOT / "samconfig.toml").read_text()
    head, found, tail = text.partition("[local-test.deploy.parameters]")
    assert found
    other = tmp_path / "samconfig.toml"
    changed = tail.replace("parameter_overrides = [", 'parameter_overrides = [\n  "GrantsAccess=true",', 1)
    other.write_text(head + found + changed)
    code, output = run(config_of_deployer, "prepare", "local-test", "--user", "somebody", SAMCONFIG=str(other))
    assert code == 1, output
    assert "Nothing was prepared." in output
    assert "make prepare USER=somebody ENV=local-test PROFILE=" in output


@pytest.fixture
def without_rust_targets(tmp_path):
    """The PATH of a machine whose Rust has the standard library for no target."""
    for name, text in (("rustc", "echo /nonexistent"), ("cargo", "echo it builds")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_a_missing_rust_target_is_reported_before_anything_is_built(config, without_rust_targets):
    code, output = run(config, "deploy", "local-test", **without_rust_targets)
    assert (code, "it builds" in output) == (1, False), output
    assert "rustup target add aarch64-unknown-linux-gnu" in output


def test_the_shells_settings_of_cargo_and_python_do_not_reach_the_build(config, tmp_path):
    (tmp_path / "libstd-1.rlib").touch()
    for name, text in (("rustc", f"echo {tmp_path}"), ("cargo", "echo to=$CARGO_TARGET_DIR with=$RUSTFLAGS.; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CARGO_TARGET_DIR": str(tmp_path), "RUSTFLAGS": "--theirs"}
    code, output = run(config, "deploy", "local-repository", **variables)
    assert code == 1
    assert f"to={ROOT / 'target'} with=." in output


@pytest.mark.parametrize("operation", ["deploy", "doctor"])
def test_credentials_of_another_account_are_refused(cloud, config, operation):
    write_config(cloud, config, repository=R, test="333333333333")
    code, output = run(config, operation, "local-test")
    assert code == 1
    assert "Profile test leads to account 333333333333" in output
    assert f"environment local-test is account {T}" in output


def test_an_unknown_environment_is_refused(config):
    code, output = run(config, "deploy", "staging")
    assert code == 1
    assert "no environment 'staging'" in output
    assert "production" in output


def test_a_missing_profile_is_reported(config):
    code, output = run(config, "deploy", "local-production")
    assert code == 1, output
    assert "Profile production of environment local-production gives no credentials" in output


@pytest.mark.parametrize(("operation", "more"), [("redrive", []), ("prepare", ["--user", "prd-user"])])
def test_another_profile_is_checked_like_the_environments_own(config, operation, more):
    code, output = run(config, operation, "test", "--profile", "repository", *more)
    assert code == 1
    assert f"Profile repository leads to account {R}" in output


def test_the_next_steps_name_the_account_in_which_they_are_done():
    steps = {name: list(next_steps(environment(name))) for name in ("repository", "test", "production")}
    assert [step.split(":")[0] for step in steps["repository"]] == ["account 222222222222", "account 333333333333"]
    assert f"make resend ENV=repository ROUTE=… ACCOUNT={T}" in steps["test"][0]
    assert "make doctor ENV=test" in steps["test"][1]
    assert not [step for step in steps["test"] if "make deploy" in step], "the repository account comes first"
    assert [step for step in steps["test"] if "make prepare" in step] == []
    assert len([step for step in steps["production"] if "make prepare USER=… ENV=production" in step]) == 1
