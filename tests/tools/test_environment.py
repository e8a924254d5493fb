"""The tools read samconfig.toml as sam reads it; an error names the file, the section and the key."""

import subprocess
import sys

import pytest
from samcli.commands.deploy.command import cli as sam_deploy

from tools.failure import Failure
from tools.layout import ROOT
from tools.operations import environment

WHOLE = {
    "test.sekisho": {"account": '"222222222222"', "repositories": '"test"'},
    "test.global.parameters": {"stack_name": '"sekisho"', "region": '"ap-northeast-1"', "profile": '"test"'},
    "test.deploy.parameters": {
        "parameter_overrides": '["HostsPipelines=true", "PipelineAccountIds=222222222222,333333333333"]'
    },
}


@pytest.fixture
def samconfig(monkeypatch, tmp_path):
    """A path that the module reads instead of the committed samconfig.toml."""
    file = tmp_path / "samconfig.toml"
    monkeypatch.setattr(environment, "SAMCONFIG", file)
    return file


def write(file, **changed):
    """Writes the file with changed keys. None removes a key, and `without` names sections to leave out."""
    text = "version = 0.1\n"
    for section, keys in WHOLE.items():
        if section in changed.get("without", []):
            continue
        text += f"[{section}]\n" + "".join(
            f"{key} = {value}\n" for key, value in (keys | changed.get(section, {})).items() if value is not None
        )
    file.write_text(text)


def overrides(value):
    return {"test.deploy.parameters": {"parameter_overrides": value}}


@pytest.mark.parametrize(
    "value",
    [
        '["HostsPipelines=true", "AlarmEmail=ops@example.com"]',
        # `sam deploy --guided` writes the parameters in this form.
        r'"HostsPipelines=\"true\" AlarmEmail=\"ops@example.com\""',
        '"HostsPipelines=true AlarmEmail=ops@example.com"',
    ],
)
def test_parameters_are_a_list_or_one_text(samconfig, value):
    write(samconfig, **overrides(value))
    found = environment.environment("test")
    assert found.parameters == {"HostsPipelines": "true", "AlarmEmail": "ops@example.com"}
    assert found.does("HostsPipelines") and not found.does("GrantsAccess")


def test_a_quoted_empty_value_is_a_value(samconfig):
    write(samconfig, **overrides(r"""["HostsPipelines=true", 'RepositoryAccountId=""']"""))
    assert environment.environment("test").parameters == {"HostsPipelines": "true", "RepositoryAccountId": ""}


def test_profile_and_region_may_be_in_the_commands_section(samconfig):
    """sam also reads profile and region in the command's section, and `sam deploy --guided` writes them there."""
    write(
        samconfig,
        **{
            "test.global.parameters": {"profile": None, "region": None},
            "test.deploy.parameters": {"profile": '"mine"', "region": '"eu-west-1"', "confirm_changeset": "true"},
        },
    )
    found = environment.environment("test")
    assert (found.profile, found.region, found.asks, found.architecture) == ("mine", "eu-west-1", True, "arm64")


TRUTHS = ["true", "false", '"true"', '"Yes"', '"on"', '" t "', '"1"', "1", "0", '"False"', '"no"', '"off"', '"n"']


def asked_by_sam(file):
    """Returns whether sam itself would ask before it deploys, according to sam's own command line."""
    arguments = ["--config-file", str(file), "--config-env", "test", "--template-file", str(ROOT / "template.yaml")]
    return sam_deploy.make_context("deploy", arguments).params["confirm_changeset"]


@pytest.mark.parametrize("value", TRUTHS)
def test_confirm_changeset_is_read_as_sam_reads_it(samconfig, monkeypatch, tmp_path, value):
    (tmp_path / "aws").write_text("[profile test]\nregion = ap-northeast-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("SAM_CLI_TELEMETRY", "0")
    write(samconfig, **{"test.deploy.parameters": {"confirm_changeset": value, "resolve_s3": "true"}})
    assert environment.environment("test").asks is asked_by_sam(samconfig)


WRONG = [
    *(
        (
            {"test.deploy.parameters": {"confirm_changeset": value}},
            f"[test.deploy.parameters]: confirm_changeset = {shown} is neither true nor false",
        )
        for value, shown in (('"maybe"', "'maybe'"), ('""', "''"), ("2", "2"), ('["true"]', "['true']"))
    ),
    (
        overrides('["HostsPipelines true"]'),
        "[test.deploy.parameters]: parameter_overrides: 'HostsPipelines' in 'HostsPipelines true' is not Name=value",
    ),
    (
        overrides('["Description=a b"]'),
        "'b' in 'Description=a b' is not Name=value (a value with blanks needs quotes)",
    ),
    (overrides('"ParameterKey=A,ParameterValue=b"'), "is not Name=value"),
    (overrides('"file://parameters.yaml"'), "is not Name=value"),
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
    ({"test.sekisho": {"account": "222222222222"}}, "[test.sekisho] has account = 222222222222, which is not a text"),
    (
        {"test.sekisho": {"account": '"22222222222"'}},
        "[test.sekisho]: account = '22222222222' is not an account id of 12 digits",
    ),
    ({"test.sekisho": {"repositories": None}}, "[test.sekisho] lacks `repositories`"),
    (
        {"test.sekisho": {"repositories": '"tset"'}},
        (
            "[test.sekisho]: repositories = 'tset' is not an environment of this file. "
            "Use the environment whose account has the repositories: test"
        ),
    ),
    ({"test.global.parameters": {"profile": None}}, "[test.global.parameters] lacks `profile`"),
    ({"test.global.parameters": {"region": None}}, "[test.global.parameters] lacks `region`"),
    ({"test.global.parameters": {"stack_name": None}}, "[test.global.parameters] lacks `stack_name`"),
    ({"test.global.parameters": {"region": "= ="}}, "can't be read"),
]


@pytest.mark.parametrize(("changed", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_an_error_names_its_place(samconfig, changed, problem):
    write(samconfig, **changed)
    with pytest.raises(Failure) as failure:
        environment.environment("test")
    assert problem in str(failure.value)
    assert "samconfig.toml" in str(failure.value)


def test_a_missing_file_is_reported(samconfig):
    assert not samconfig.exists()
    with pytest.raises(Failure, match=r"samconfig.toml can't be read"):
        environment.environments()


def test_another_file_can_be_named(tmp_path):
    command = [sys.executable, "-c", "from tools.operations import environment; print(environment.SAMCONFIG)"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "SAMCONFIG": "mine.toml"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "mine.toml")
