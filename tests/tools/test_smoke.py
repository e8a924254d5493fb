"""`make smoke` reports each fact, removes what it creates, and has the checks that docs/local-stack.md lists."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import botocore.credentials
import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import document
from tests.tools.faults import BUCKET, OTHER_ACCOUNT, R, T
from tests.tools.runner import run
from tools.layout import REGION, ROOT
from tools.operations import closed_alias, experiments, facts, smoke, tags
from tools.operations.facts import State
from tools.operations.smoke import FACTS

NAMES = {fact.check.__name__: fact.name for fact in FACTS}


@pytest.fixture(scope="module")
def administrators(cloud, tmp_path_factory):
    """An AWS config file with an IAM user per account who is an administrator and whom policies can deny actions."""
    file, sections = tmp_path_factory.mktemp("administrators") / "config", []
    for profile, account in (("repository", R), ("test", T)):
        iam = cloud.client(account, "iam")
        iam.create_user(UserName="smoker")
        everything = document([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
        iam.put_user_policy(UserName="smoker", PolicyName="all", PolicyDocument=everything)
        key = iam.create_access_key(UserName="smoker")["AccessKey"]
        sections.append(
            f"[profile {profile}]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
            f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
        )
    file.write_text("".join(sections))
    return file


@pytest.fixture(scope="module")
def samconfig(tmp_path_factory):
    """A samconfig.toml in which the account under test also grants access, unlike in the committed file."""
    text = (ROOT / "samconfig.toml").read_text().replace('"ArtifactWrites=repair"', '"GrantsAccess=true"')
    file = tmp_path_factory.mktemp("samconfig") / "samconfig.toml"
    file.write_text(text)
    return str(file)


def states(output):
    """Returns the state of each reported fact by the name of its check."""
    lines = re.findall(r"^(holds|DOES NOT HOLD|can't be seen) +(.*)$", output, re.MULTILINE)
    by_name = {name: state for state, name in lines}
    return {check: by_name[name] for check, name in NAMES.items() if name in by_name}


def inventory(cloud):
    """Returns everything that the checks could leave behind."""
    rules = cloud.client(T, "events").list_rules()["Rules"]
    return {
        "buckets": sorted(one["Name"] for one in cloud.client(T, "s3").list_buckets()["Buckets"]),
        "users": sorted(one["UserName"] for one in cloud.client(T, "iam").list_users()["Users"]),
        "pipelines": sorted(one["name"] for one in cloud.client(T, "codepipeline").list_pipelines()["pipelines"]),
        "rules": sorted((one["Name"], one["State"]) for one in rules),
        "alarms": sorted(
            one["AlarmName"] for one in cloud.client(T, "cloudwatch").describe_alarms(MaxRecords=100)["MetricAlarms"]
        ),
        "aliases": [
            one["Name"] for one in cloud.client(T, "lambda").list_aliases(FunctionName="temp-access")["Aliases"]
        ],
        "change sets": cloud.client(T, "cloudformation").list_change_sets(StackName="sekisho")["Summaries"],
        "keys": sum(
            cloud.client(T, "kms").describe_key(KeyId=one["KeyId"])["KeyMetadata"]["KeyState"] == "Enabled"
            for one in cloud.client(T, "kms").list_keys()["Keys"]
        ),
    }


def test_the_page_lists_the_checks():
    page = (ROOT / "docs" / "local-stack.md").read_text()
    section = page.partition("## What must be checked on AWS")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    checks = [[fact.name, fact.where, "yes" if fact.writes else "", fact.breaks] for fact in FACTS]
    assert rows[2:] == checks


def test_only_the_command_line_lets_the_checks_write():
    """A variable that a shell happens to export must not let the checks write."""

    def command_of(*arguments, **variables):
        names = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "WRITE")
        environ = {name: value for name, value in os.environ.items() if name not in names}
        command = ["make", "--no-print-directory", "--dry-run", "smoke", "ENV=test", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environ | variables, capture_output=True, text=True, check=True
        ).stdout.split()

    assert "--write" in command_of("WRITE=1")
    assert "--write" not in command_of("WRITE=0")
    assert "--write" not in command_of(WRITE="1")
    assert "--profile" in command_of("PROFILE=admin")


def test_without_write_nothing_is_created(cloud, administrators, samconfig):
    before = inventory(cloud)
    code, output = run(administrators, "smoke", "local-test", SAMCONFIG=samconfig)
    assert code == 0, output
    found = states(output)
    assert set(found) == {fact.check.__name__ for fact in FACTS if fact.where != "repositories"}, output
    assert found["cloudformation_may_do_everything"] == "holds"
    writing = [fact.check.__name__ for fact in FACTS if fact.writes and fact.where != "repositories"]
    assert {found[one] for one in writing} == {"can't be seen"}
    assert output.count("run it with WRITE=1") == len(writing)
    assert inventory(cloud) == before


def test_with_write_each_check_runs_and_cleans_up(cloud, administrators, samconfig):
    before = inventory(cloud)
    code, output = run(administrators, "smoke", "local-test", "--write", SAMCONFIG=samconfig)
    found = states(output)
    assert found["v1_pipeline_refuses_pin"] == "holds", output
    # The local CodePipeline shows revisions only after the source action has run.
    assert found["revisions_are_shown_from_the_start"] == "DOES NOT HOLD", output
    assert found["removed_grant_stops"] == "holds", output
    assert found["policy_closes_an_alias"] == "holds", output
    assert found["flap_stays_in_history"] == "holds", output
    assert found["deny_lets_encryption_be_updated"] == "holds", output
    # The local CloudFormation has no drift-aware change sets, so this fact does not hold there.
    assert found["change_set_reverts_drift"] == "DOES NOT HOLD", output
    assert code == 1, output
    assert "NOT REMOVED" not in output
    assert inventory(cloud) == before


def test_the_repository_account_has_its_own_checks(administrators):
    code, output = run(administrators, "smoke", "local-repository")
    assert code == 0, output
    wanted = {fact.check.__name__ for fact in FACTS if fact.where in ("each", "repositories")}
    assert set(states(output)) == wanted
    assert "sets no PipelineOrgPath" in output


def test_tags_are_pushed_to_a_repository_of_the_check_and_read(cloud, administrators):
    codecommit = cloud.client(R, "codecommit")
    before = codecommit.list_repositories()["repositories"]
    _, output = run(administrators, "smoke", "local-repository", "--write")
    assert states(output)["tags_are_read"] == "holds", output
    assert "both tags lead to commit" in output and "NOT REMOVED" not in output
    assert codecommit.list_repositories()["repositories"] == before


def test_a_tag_that_is_not_resolved_is_seen(monkeypatch):
    """The local cloud resolves annotated tags, so this test uses a fake of CodeCommit, which does not."""

    class CodeCommit:
        def create_repository(self, **_request):
            return {"repositoryMetadata": {"cloneUrlHttp": "nowhere"}}

        def delete_repository(self, **_request):
            pass

        def get_folder(self, *, commitSpecifier, **_request):  # noqa: N803 (boto3's names)
            return {"commitId": {"refs/tags/light": "1" * 40, "refs/tags/annotated": "2" * 40}[commitSpecifier]}

    class Place(facts.Place):
        def __init__(self):
            self.left = []

        def client(self, _service):
            return CodeCommit()

    monkeypatch.setattr(tags, "_push_tags", lambda _place, _url: "1" * 40)
    state, detail = tags.tags_are_read(Place())
    assert (state, detail) == (State.FAILS, f"the annotated tag of commit {'1' * 40} leads to {'2' * 40}")


def test_a_route_of_every_repository_hides_the_tags(tmp_path, monkeypatch):
    config = tmp_path / "sekisho.toml"
    config.write_text('[[route]]\nrepository = "*"\n')
    monkeypatch.setattr(tags, "CONFIG", config)

    class Place(facts.Place):
        def __init__(self):
            pass

        def client(self, _service):
            return None

    state, detail = tags.tags_are_read(Place())
    assert (state, "the route of * would relay" in detail) == (State.HIDDEN, True)


def test_the_login_for_git_has_the_key_and_a_signature_of_the_path(monkeypatch):
    keys = botocore.credentials.Credentials("AKIDEXAMPLE", "secret", "token")

    class Place(facts.Place):
        def __init__(self):
            self.region = "ap-northeast-1"
            self.session: Any = SimpleNamespace(get_credentials=lambda: keys)

    moment = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
    monkeypatch.setattr(tags, "get_current_datetime", lambda: moment)
    host = "https://git-codecommit.ap-northeast-1.amazonaws.com/v1/repos/"
    found = []
    for name in ("shop", "shop", "other"):
        kind, _, login = tags._login(Place(), host + name).removeprefix("Authorization: ").partition(" ")
        assert kind == "Basic"
        found.append(base64.b64decode(login).decode())
    first, second, other = found
    assert re.fullmatch(r"AKIDEXAMPLE%token:20261128T100000Z[0-9a-f]{64}", first)
    assert first == second != other


@pytest.mark.parametrize(
    ("decision", "state"),
    [({"outcome": "reported"}, "holds"), ({"outcome": "relayed"}, "can't be seen")],
    ids=["reported", "relayed"],
)
def test_the_ledger_shows_reports(cloud, administrators, decision, state):
    table = cloud.client(R, "dynamodb")
    key = {
        "pk": {"S": f"decision#event-relay#{datetime.now(UTC):%Y-%m-%d}"},
        "sk": {"S": "2026-11-28T00:00:00Z#request"},
    }
    entry = {"M": {name: {"S": text} for name, text in decision.items()}}
    table.put_item(TableName="sekisho-ledger", Item=key | {"decisions": {"L": [entry]}})
    try:
        _, output = run(administrators, "smoke", "local-repository")
    finally:
        table.delete_item(TableName="sekisho-ledger", Key=key)
    assert states(output)["reports_arrive"] == state, output


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        ({"outcome": "started", "id": "1"}, "holds"),
        ({"outcome": "refused", "account": OTHER_ACCOUNT}, "DOES NOT HOLD"),
        ({"outcome": "refused", "account": R}, "can't be seen"),
        ({"outcome": "ignored"}, "can't be seen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_the_ledger_shows_the_outer_account(cloud, administrators, decision, state):
    table = cloud.client(T, "dynamodb")
    key = {
        "pk": {"S": f"decision#pipeline-starter#{datetime.now(UTC):%Y-%m-%d}"},
        "sk": {"S": "2026-11-28T00:00:00Z#request"},
    }
    entry = {"M": {name: {"S": text} for name, text in decision.items()}}
    table.put_item(TableName="sekisho-ledger", Item=key | {"decisions": {"L": [entry]}})
    try:
        code, output = run(administrators, "smoke", "local-test")
    finally:
        table.delete_item(TableName="sekisho-ledger", Key=key)
    assert states(output)["outer_account_is_the_relays"] == state, output
    assert code == (state == "DOES NOT HOLD"), output
    assert ("This breaks: pipeline-starter refuses every change" in output) == (state == "DOES NOT HOLD")


def test_a_deny_that_reaches_too_far_is_seen(cloud, administrators):
    s3 = cloud.client(T, "s3")
    key = cloud.client(T, "kms").describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
    policy, header = s3.get_bucket_policy(Bucket=BUCKET)["Policy"], "s3:x-amz-server-side-encryption-aws-kms-key-id"
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:PutObject", "s3:UpdateObjectEncryption"],
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
        "Condition": {"StringNotEquals": {header: key}},
    }
    less = [one for one in json.loads(policy)["Statement"] if "server-side-encryption" not in json.dumps(one)]
    s3.put_bucket_policy(Bucket=BUCKET, Policy=document([*less, statement]))
    try:
        _, output = run(administrators, "smoke", "local-test", "--write")
    finally:
        s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)
    assert states(output)["deny_lets_encryption_be_updated"] == "DOES NOT HOLD", output
    assert "NOT REMOVED" not in output


def test_a_part_that_is_refused_is_seen(monkeypatch):
    """The check finds out what AWS does. The emulator gives a part the key of its upload, so this test uses a fake."""

    class S3:
        def __getattr__(self, _operation):
            return lambda **_request: {"UploadId": "1"}

        def put_object(self, **_request):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "wrong key"}}, "PutObject")

        def upload_part(self, **_request):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no key"}}, "UploadPart")

    class Place(facts.Place):
        def __init__(self):
            pass

        def client(self, _service):
            return S3()

    scratch = experiments.Scratch("bucket", "key", "other", "{}")
    monkeypatch.setattr(experiments, "_scratch", lambda _place: contextlib.nullcontext(scratch))
    state, detail = experiments.part_without_key_passes(Place())
    assert (state, "no key" in detail) == (State.FAILS, True)


@pytest.mark.parametrize(
    ("refused", "denied", "state", "part"),
    [
        ("put_resource_policy", (), State.FAILS, "lambda:InvokeAsync is not valid"),
        (None, ("invoke",), State.FAILS, "comes through by InvokeAsync"),
        (None, ("invoke", "invoke_async"), State.HOLDS, "InvokeAsync is refused (AccessDeniedException)"),
        ("invoke_async", ("invoke",), State.HIDDEN, "InvokeAsync fails with InvalidParameterValueException"),
    ],
)
@pytest.mark.parametrize(
    ("check", "effects"),
    [(closed_alias.policy_closes_an_alias, ["Allow", "Deny"]), (closed_alias.deny_alone_closes_an_alias, ["Deny"])],
)
def test_an_alias_that_does_not_close_is_seen(monkeypatch, check, effects, refused, denied, state, part):
    """The local cloud takes every policy of a door and obeys it, so this test uses a fake of Lambda."""
    made = []

    class Lambda:
        def create_alias(self, **request):
            made.append(request["Name"])

        def delete_alias(self, **request):
            made.remove(request["Name"])

        def put_resource_policy(self, **request):
            assert [one["Effect"] for one in json.loads(request["Policy"])["Statement"]] == effects
            self.__getattr__("put_resource_policy")()

        def __getattr__(self, operation):
            def call(**_request):
                code = "AccessDeniedException" if operation in denied else "InvalidParameterValueException"
                if operation == refused or operation in denied:
                    error = ClientError(
                        {"Error": {"Code": code, "Message": "lambda:InvokeAsync is not valid"}}, operation
                    )
                    raise error

            return call

    class Place(facts.Place):
        def __init__(self):
            self.target: Any = SimpleNamespace(account=T, region=REGION)
            self.left = []

        def client(self, _service):
            return Lambda()

    monkeypatch.setattr(closed_alias, "SECONDS", 0)
    found, detail = check(Place())
    assert (found, part in detail, made) == (state, True, []), detail


def test_what_cannot_be_removed_is_named(monkeypatch, capsys):
    def refused(**_request):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not allowed"}}, "DeleteUser")

    def check(place):
        place.remove("user smoke-1", refused, UserName="smoke-1")
        return facts.holds("done")

    class Place(facts.Place):
        def __init__(self):
            self.left = []

    monkeypatch.setattr(smoke, "FACTS", [facts.Fact("a fact", "each", True, "nothing", check)])
    assert smoke.smoke(Place(), writes=True) is False
    assert "NOT REMOVED   user smoke-1 (An error occurred (AccessDenied)" in capsys.readouterr().out


def test_without_a_deny_there_is_nothing_to_try(cloud, administrators):
    s3 = cloud.client(T, "s3")
    policy = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    less = [one for one in json.loads(policy)["Statement"] if "server-side-encryption" not in json.dumps(one)]
    s3.put_bucket_policy(Bucket=BUCKET, Policy=document(less))
    try:
        _, output = run(administrators, "smoke", "local-test", "--write")
    finally:
        s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)
    assert states(output)["deny_lets_encryption_be_updated"] == "can't be seen", output


def test_a_profile_without_permission_hides_the_facts(config_of_deployer):
    code, output = run(config_of_deployer, "smoke", "local-test", "--write")
    assert code == 0, output
    assert "use PROFILE=… of an administrator" in output
    # The checks must not create anything that these credentials may not remove.
    assert "NOT REMOVED" not in output
    assert set(states(output).values()) <= {"holds", "can't be seen"}


@pytest.mark.parametrize("pause", [0, 0.1, 0.3])
def test_a_check_that_is_ended_removes_what_it_created(cloud, administrators, samconfig, pause):
    before = inventory(cloud)
    s3 = cloud.client(T, "s3")
    command = [sys.executable, "-m", "tools.operations.smoke", "--env", "local-test", "--write"]
    aws = {"AWS_CONFIG_FILE": str(administrators), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "SAMCONFIG": samconfig}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(command, cwd=ROOT, env=clean | aws, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while len(s3.list_buckets()["Buckets"]) == len(before["buckets"]) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(pause)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode != 0
    assert inventory(cloud) == before


def test_a_failed_action_is_seen(cloud, administrators):
    codepipeline = cloud.client(T, "codepipeline")
    pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
    # The repository has no branch, so the source action fails.
    execution = codepipeline.start_pipeline_execution(name="shop")
    which = {"pipelineName": "shop", "pipelineExecutionId": execution["pipelineExecutionId"]}
    deadline = time.monotonic() + 30
    while codepipeline.get_pipeline_execution(**which)["pipelineExecution"]["status"] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    try:
        code, output = run(administrators, "smoke", "local-test")
    finally:
        # A new pipeline has no executions, so the failed execution does not disturb later tests.
        codepipeline.delete_pipeline(name="shop")
        codepipeline.create_pipeline(pipeline={key: one for key, one in pipeline.items() if key != "version"})
    assert (code, states(output)["actions_succeed"]) == (1, "DOES NOT HOLD"), output
    assert "shop/Source: " in output
    assert "This breaks: changes are not deployed" in output
