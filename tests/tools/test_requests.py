"""`make where`, `make resend` and `make repair` print the answer to a request, and fail with the function's error."""

import subprocess

import pytest

from tests.tools.faults import R, T
from tests.tools.runner import run
from tests.tools.test_commands import make_would_run
from tools.failure import Failure
from tools.operations import invocation, repair, resend, where
from tools.operations.environment import environment


def test_the_answer_is_printed_as_it_is(answering, capsys):
    functions = answering("shop at 0123456 in 333333333333\nand more")
    where.main(["--env", "repository"])
    where.main(["--env", "repository", "--route", "shop"])
    assert functions.invoked == [
        ("sekisho-event-relay", {"action": "where"}),
        ("sekisho-event-relay", {"action": "where", "route": "shop"}),
    ]
    assert capsys.readouterr().out == "shop at 0123456 in 333333333333\nand more\n" * 2


def test_resend_names_the_route_and_the_account_and_what_narrows_it(answering, capsys):
    functions = answering("sent")
    resend.main(["--env", "repository", "--route", "shop", "--account", T])
    narrowed = {"region": "eu-west-1", "pipeline": "shop"}
    given = [word for name, value in narrowed.items() for word in (f"--{name}", value)]
    resend.main(["--env", "repository", "--route", "shop", "--account", T, *given])
    request = {"action": "resend", "route": "shop", "account": T}
    assert [one for _, one in functions.invoked] == [request, request | narrowed]
    assert capsys.readouterr().out == "sent\nsent\n"


@pytest.mark.parametrize("command", [where, resend])
def test_an_error_of_the_function_ends_the_command(answering, command):
    answering({"errorType": "NotFound", "errorMessage": "no route shop: use one of …"}, FunctionError="Unhandled")
    given = ["--env", "repository", "--route", "shop", *(["--account", T] if command is resend else [])]
    with pytest.raises(SystemExit) as ended:
        command.main(given)
    assert "NotFound: no route shop: use one of …" in str(ended.value.code)


def test_an_earlier_version_that_does_not_know_the_request_is_reported(answering):
    answering({"decisions": [{"outcome": "refused", "reason": "unknown action"}]})
    with pytest.raises(Failure, match="does not know the action where") as failure:
        invocation.ask_relay(environment("repository"), {"action": "where"})
    assert "make deploy ENV=repository" in str(failure.value)


@pytest.mark.parametrize("operation", ["where", "resend"])
def test_an_environment_without_repositories_is_refused_with_the_right_one(config, operation):
    more = ["--route", "shop", "--account", T] if operation == "resend" else []
    code, output = run(config, operation, "test", *more)
    assert code == 1
    assert "Environment test has no event-relay: use ENV=repository" in output


def test_another_profile_is_checked_like_the_environments_own(config):
    code, output = run(config, "where", "repository", "--profile", "test")
    assert code == 1
    assert f"Profile test leads to account {T}" in output and R in output


def test_make_passes_on_only_the_variables_of_its_command_line():
    assert "--route" not in make_would_run("where", "ENV=repository", ROUTE="shop")
    assert '--route "shop"' in make_would_run("where", "ENV=repository", "ROUTE=shop")
    given = ("ENV=repository", "ROUTE=shop", f"ACCOUNT={T}", "PROFILE=admin")
    assert "--region" not in make_would_run("resend", *given, REGION="eu-west-1", PIPELINE="shop")
    whole = make_would_run("resend", *given, "REGION=eu-west-1", "PIPELINE=shop")
    for option in ("--route", "--account", "--region", "--pipeline", "--profile"):
        assert option in whole


def test_resend_needs_a_route_and_an_account():
    done = subprocess.run(["make", "resend", "ENV=repository"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "--route, --account" in done.stderr


def test_repair_confirms_a_repair_in_the_account_with_the_pipelines(answering, capsys):
    functions = answering({"decisions": [{"outcome": "reported", "reason": "estimated cost: $0.25"}]})
    repair.main(["--env", "test", "--code", "ABCD2345"])
    assert functions.invoked == [("sekisho-artifact-checker", {"action": "repair", "code": "ABCD2345"})]
    assert capsys.readouterr().out == "reported: estimated cost: $0.25\n"
    with pytest.raises(SystemExit) as ended:
        repair.main(["--env", "repository", "--code", "ABCD2345"])
    assert "Environment repository has no artifact-checker" in str(ended.value.code)
    assert '--code "ABCD2345"' in make_would_run("repair", "ENV=test", "CODE=ABCD2345")
    assert "--code" not in make_would_run("repair", "ENV=test", CODE="ABCD2345")
