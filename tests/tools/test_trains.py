"""Each make command about trains sends one request to event-relay, prints its text, and fails with its error."""

import json
import subprocess
import sys

import pytest

from tests.tools.test_commands import make_would_run
from tools.layout import ROOT
from tools.operations import trains

TRAINS = ("train", "hold", "resume", "accept", "promote", "pardon", "rollback")


def test_each_command_sends_its_action_with_what_was_given(answering, capsys):
    functions = answering("done")
    for operation in TRAINS:
        trains.main([operation, "--env", "repository", "--route", "shop", "--wave", "tokyo"])
    assert functions.invoked == [
        ("sekisho-event-relay", {"action": operation, "route": "shop", "wave": "tokyo"}) for operation in TRAINS
    ]
    assert capsys.readouterr().out == "done\n" * len(TRAINS)


def test_a_request_has_every_field_in_its_type(answering):
    functions = answering("done")
    given = {"route": "shop", "wave": "tokyo", "ref": "main", "reason": 'the sale & "more"'}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    trains.main(["hold", "--env", "repository", *words, "--minutes", "120", "--dry-run"])
    trains.main(["promote", "--env", "repository", "--route", "shop", "--revision", "0123456"])
    assert [request for _, request in functions.invoked] == [
        {"action": "hold", **given, "minutes": 120, "dry_run": True},
        {"action": "promote", "route": "shop", "revision": "0123456"},
    ]


def test_a_code_takes_the_place_of_the_action(answering):
    functions = answering("done")
    trains.main(["pardon", "--env", "repository", "--code", "ABCD2345", "--reason", "flaky test"])
    assert functions.invoked == [("sekisho-event-relay", {"pardon": "ABCD2345", "reason": "flaky test"})]


def test_accept_takes_a_finding_to_the_account_with_the_pipelines(answering, capsys):
    functions = answering({"decisions": [{"outcome": "accepted", "reason": "somebody accepted the finding: known"}]})
    trains.main(["accept", "--env", "test", "--finding", "ABCD2345", "--reason", "known"])
    assert functions.invoked == [
        ("sekisho-artifact-checker", {"action": "accept", "finding": "ABCD2345", "reason": "known"})
    ]
    assert capsys.readouterr().out == "accepted: somebody accepted the finding: known\n"
    with pytest.raises(SystemExit) as ended:
        trains.main(["accept", "--env", "repository", "--finding", "ABCD2345", "--reason", "known"])
    assert "Environment repository has no artifact-checker" in str(ended.value.code)
    assert '--finding "ABCD2345"' in make_would_run("accept", "ENV=test", "FINDING=ABCD2345")
    assert "--finding" not in make_would_run("accept", "ENV=test", FINDING="ABCD2345")


def test_an_empty_value_reaches_the_function_which_says_what_to_write(answering):
    functions = answering("done")
    trains.main(["hold", "--env", "repository", "--route", "shop", "--reason", ""])
    assert functions.invoked == [("sekisho-event-relay", {"action": "hold", "route": "shop", "reason": ""})]


@pytest.mark.parametrize("operation", TRAINS)
def test_an_error_of_the_function_ends_the_command(answering, operation):
    answering({"errorType": "NotFound", "errorMessage": "no wave osaka: use …"}, FunctionError="Unhandled")
    with pytest.raises(SystemExit) as ended:
        trains.main([operation, "--env", "repository", "--route", "shop", "--wave", "osaka"])
    assert str(ended.value.code) == "Not done. NotFound: no wave osaka: use …"


GIVEN = {
    "ROUTE": ("--route", "shop"),
    "WAVE": ("--wave", "tokyo"),
    "REVISION": ("--revision", "0123456"),
    "REF": ("--ref", "main"),
    "MINUTES": ("--minutes", "5"),
    "CODE": ("--code", "ABCD2345"),
    "PROFILE": ("--profile", "admin"),
}


@pytest.mark.parametrize("operation", TRAINS)
def test_make_passes_on_only_the_variables_of_its_command_line(operation):
    variables = {name: value for name, (_, value) in GIVEN.items()} | {"DRY_RUN": "1", "REASON": "why"}
    whole = make_would_run(operation, "ENV=repository", *(f"{name}={value}" for name, value in variables.items()))
    for option, value in GIVEN.values():
        assert f'{option} "{value}"' in whole
    assert f"tools {operation} " in whole and "--dry-run" in whole and "--reason" in whole
    exported = make_would_run(operation, "ENV=repository", **variables)
    assert exported.split()[-3:] == [operation, "--env", '"repository"']


def test_a_reason_may_contain_quotes_and_commands_of_the_shell():
    reason = """it's "odd": `id` & ; done"""
    echo = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv))'"
    command = ["make", "--silent", "hold", "ENV=repository", f"REASON={reason}", f"PYTHON={echo}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[-2:] == ["--reason", reason]
