"""What samconfig.toml says of an account: read as sam reads it, and refused with file, section and key where it can't be."""

import importlib
import subprocess
import sys

import pytest

from tests.template.deployed import ROOT

WHOLE = {
    "test.sekisho": {"account": '"222222222222"', "repositories": '"test"'},
    "test.global.parameters": {"stack_name": '"sekisho"', "region": '"ap-northeast-1"', "profile": '"test"'},
    "test.deploy.parameters": {
        "parameter_overrides": '["HostsPipelines=true", "PipelineAccountIds=222222222222,333333333333"]'
    },
}


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The module, reading a file of ours."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("environment")
    monkeypatch.setattr(module, "SAMCONFIG", tmp_path / "samconfig.toml")
    return module


def written(module, **changed):
    """The file with a key changed (None: gone) or, by its name, a section gone."""
    text = ""
    for section, keys in WHOLE.items():
        if section in changed.get("without", []):
            continue
        text += f"[{section}]\n" + "".join(
            f"{key} = {value}\n" for key, value in (keys | changed.get(section, {})).items() if value is not None
        )
    module.SAMCONFIG.write_text(text)


def overrides(value):
    return {"test.deploy.parameters": {"parameter_overrides": value}}


@pytest.mark.parametrize(
    "value",
    [
        '["HostsPipelines=true", "AlarmEmail=ops@example.com"]',
        # As `sam deploy --guided` writes it.
        r'"HostsPipelines=\"true\" AlarmEmail=\"ops@example.com\""',
        '"HostsPipelines=true AlarmEmail=ops@example.com"',
    ],
)
def test_parameters_are_a_list_or_one_text(environment, value):
    written(environment, **overrides(value))
    found = environment.environment("test")
    assert found.parameters == {"HostsPipelines": "true", "AlarmEmail": "ops@example.com"}
    assert found.does("HostsPipelines") and not found.does("GrantsAccess")


def test_a_quoted_empty_value_is_one(environment):
    written(environment, **overrides(r"""["HostsPipelines=true", 'RepositoryAccountId=""']"""))
    assert environment.environment("test").parameters == {"HostsPipelines": "true", "RepositoryAccountId": ""}


def test_profile_and_region_may_stand_with_the_command_as_sam_takes_them(environment):
    """`sam deploy --guided` writes them there."""
    written(
        environment,
        **{
            "test.global.parameters": {"profile": None, "region": None},
            "test.deploy.parameters": {"profile": '"mine"', "region": '"eu-west-1"', "confirm_changeset": "true"},
        },
    )
    found = environment.environment("test")
    assert (found.profile, found.region, found.asks, found.architecture) == ("mine", "eu-west-1", True, "arm64")


WRONG = [
    (
        overrides('["HostsPipelines true"]'),
        "[test.deploy.parameters]: parameter_overrides: 'HostsPipelines' in 'HostsPipelines true' is no Name=value",
    ),
    (
        overrides('["Description=a b"]'),
        "'b' in 'Description=a b' is no Name=value (a value with blanks goes in quotes)",
    ),
    (overrides('"ParameterKey=A,ParameterValue=b"'), "is no Name=value"),
    (overrides('"file://parameters.yaml"'), "is no Name=value"),
    (overrides('["RepositoryAccountId="]'), "'RepositoryAccountId=' has an empty value, which sam refuses"),
    (overrides(r'"HostsPipelines=\"true"'), "can't be read (No closing quotation)"),
    (
        overrides("{HostsPipelines = true}"),
        "[test.deploy.parameters]: parameter_overrides can not be read: write a list",
    ),
    (overrides("[true]"), "parameter_overrides can not be read"),
    (overrides(None), "[test.deploy.parameters]: parameter_overrides is missing: write a list"),
    ({"without": ["test.deploy.parameters"]}, "has no section [test.deploy.parameters], which environment test needs"),
    ({"without": ["test.global.parameters"]}, "has no section [test.global.parameters], which environment test needs"),
    ({"test.sekisho": {"account": None}}, "[test.sekisho] lacks `account`"),
    ({"test.sekisho": {"account": "222222222222"}}, "[test.sekisho] has account = 222222222222, which is no text"),
    (
        {"test.sekisho": {"account": '"22222222222"'}},
        "[test.sekisho]: account = '22222222222' is no account id of 12 digits",
    ),
    ({"test.sekisho": {"repositories": None}}, "[test.sekisho] lacks `repositories`"),
    (
        {"test.sekisho": {"repositories": '"tset"'}},
        "[test.sekisho]: repositories = 'tset' is no environment of this file. Use one of test",
    ),
    ({"test.global.parameters": {"profile": None}}, "[test.global.parameters] lacks `profile`"),
    ({"test.global.parameters": {"region": None}}, "[test.global.parameters] lacks `region`"),
    ({"test.global.parameters": {"stack_name": None}}, "[test.global.parameters] lacks `stack_name`"),
    ({"test.global.parameters": {"region": "= ="}}, "can't be read"),
]


@pytest.mark.parametrize(("changed", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said_with_its_place(environment, changed, said):
    written(environment, **changed)
    with pytest.raises(environment.Refused) as refused:
        environment.environment("test")
    assert said in str(refused.value)
    assert "samconfig.toml" in str(refused.value)


def test_a_file_that_is_not_there_is_said(environment):
    with pytest.raises(environment.Refused, match="samconfig.toml can't be read"):
        environment.environments()


def test_another_file_can_be_named(tmp_path):
    command = [sys.executable, "-c", "import environment; print(environment.SAMCONFIG)"]
    said = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "scripts"), "SAMCONFIG": "mine.toml"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(tmp_path / "mine.toml")
