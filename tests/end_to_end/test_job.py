"""The main job of Sekisho, from end to end.

A push in one account starts one pipeline in each of two other accounts. Artifacts are encrypted with the right key. A
person gets access, and the access ends. The tests follow the order of these events, and read the state of the accounts.
"""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from tools.layout import ACCOUNTS, PERSON, PIPELINE, REGION, REPOSITORY
from tools.local_stack import job
from tools.local_stack.job import NO_COMMIT, PIPELINE_ACCOUNTS
from tools.local_stack.observed import decisions, error_code, execution_of, executions, grants, stack_status

DENIED = {"AccessDenied", "AccessDeniedException"}


@pytest.fixture(scope="module")
def commit(clone):
    """The first commit of the application, pushed."""
    commit = clone.commit(job.application(), "Sell apples and melons", branch="main")
    clone.push("main")
    return commit


def test_a_push_is_relayed_once_and_starts_the_pipeline_of_each_account_at_that_commit(stack, commit):
    relayed = job.wait_for_decision(stack, "repository", "event-relay", 0, "relayed")
    assert relayed["commit"] == commit
    for profile in PIPELINE_ACCOUNTS:
        execution = job.wait_for_deployment(stack, profile, commit)
        assert execution["status"] == "Succeeded"
        assert [one["revisionId"] for one in execution["sourceRevisions"]] == [commit]
        assert len(executions(stack, profile)) == 1
        assert len(decisions(stack, profile, "pipeline-starter", "started")) == 1
    # The event may arrive more than once, and a reconcile may read the head as well, but the commit is relayed once.
    assert len(decisions(stack, "repository", "event-relay", "relayed")) == 1


@pytest.mark.parametrize("profile", PIPELINE_ACCOUNTS)
def test_the_application_runs_in_both_accounts(stack, commit, profile):
    job.wait_for_deployment(stack, profile, commit)
    assert stack_status(stack, profile, REPOSITORY) == "CREATE_COMPLETE"
    assert job.invoke(stack, profile, job.APPLICATION_FUNCTION, {}) == {"apple": 120, "melon": 980}
    assert stack_status(stack, "repository", REPOSITORY) is None


@pytest.mark.parametrize("profile", PIPELINE_ACCOUNTS)
def test_the_source_artifact_is_the_commits_archive_under_the_accounts_own_key(stack, commit, profile):
    execution = job.wait_for_deployment(stack, profile, commit)
    outputs = stack.outputs(profile)
    codepipeline = stack.client(profile, "codepipeline")
    actions = codepipeline.list_action_executions(
        pipelineName=PIPELINE, filter={"pipelineExecutionId": execution["pipelineExecutionId"]}
    )["actionExecutionDetails"]
    (source,) = (one for one in actions if one["actionName"] == "Source")
    (artifact,) = source["output"]["outputArtifacts"]
    place = {"Bucket": artifact["s3location"]["bucket"], "Key": artifact["s3location"]["key"]}
    assert place["Bucket"] == outputs["ArtifactBucketName"]
    head = stack.client(profile, "s3").head_object(**place)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", outputs["ArtifactKeyArn"])
    with job.artifact_reader(stack, profile) as pipeline:
        content = pipeline.get_object(**place)["Body"].read()
    assert content.startswith(b"PK") and b"api/template.yaml" in content


def starts_nothing(stack, action):
    """Calls the action and returns its result; fails if the action gives a pipeline a new execution."""
    before = {profile: len(executions(stack, profile)) for profile in PIPELINE_ACCOUNTS}
    result = action()
    assert {profile: len(executions(stack, profile)) for profile in PIPELINE_ACCOUNTS} == before
    return result


def test_the_same_event_again_is_a_duplicate(stack, commit):
    for profile in PIPELINE_ACCOUNTS:
        job.wait_for_deployment(stack, profile, commit)

    def again():
        before = len(decisions(stack, "repository", "event-relay"))
        job.repeat_push_event(stack, NO_COMMIT, commit, "refs/heads/main")
        job.wait_for_decision(stack, "repository", "event-relay", before, "duplicate")

    starts_nothing(stack, again)
    assert len(decisions(stack, "repository", "event-relay", "relayed")) == 1


@pytest.mark.parametrize("profile", PIPELINE_ACCOUNTS)
def test_the_same_relayed_event_again_is_a_duplicate(stack, commit, profile):
    job.wait_for_deployment(stack, profile, commit)

    def again():
        before = len(decisions(stack, profile, "pipeline-starter"))
        answer = job.repeat_relayed_event(stack, profile, commit)
        assert [one["outcome"] for one in answer["decisions"]] == ["duplicate"]
        job.wait_for_decision(stack, profile, "pipeline-starter", before, "duplicate")

    starts_nothing(stack, again)


@pytest.mark.usefixtures("commit")
def test_a_branch_without_a_route_is_filtered(stack, clone):
    def push():
        before = len(decisions(stack, "repository", "event-relay"))
        clone.commit({"api/pears.txt": "pears\n"}, "Try pears", branch="try-pears")
        clone.push("try-pears")
        job.wait_for_decision(stack, "repository", "event-relay", before, "filtered")

    starts_nothing(stack, push)
    clone.git("checkout", "--quiet", "main")


@pytest.mark.usefixtures("commit")
def test_a_push_of_the_readme_alone_is_filtered(stack, clone):
    def push():
        before = len(decisions(stack, "repository", "event-relay"))
        clone.commit(job.README_CHANGE, "Say when the shop is open")
        clone.push("main")
        job.wait_for_decision(stack, "repository", "event-relay", before, "filtered")

    starts_nothing(stack, push)


def test_the_next_push_updates_the_application(stack, clone, commit):
    template = job.application()["api/template.yaml"]
    assert '"melon": 980' in template
    second = clone.commit(
        {"api/template.yaml": template.replace('"melon": 980', '"melon": 870')}, "Sell melons for less"
    )
    clone.push("main")
    for profile in PIPELINE_ACCOUNTS:
        job.wait_for_deployment(stack, profile, second)
        assert stack_status(stack, profile, REPOSITORY) == "UPDATE_COMPLETE"
        assert job.invoke(stack, profile, job.APPLICATION_FUNCTION, {}) == {"apple": 120, "melon": 870}
        assert execution_of(stack, profile, second) != execution_of(stack, profile, commit)


@pytest.mark.usefixtures("commit")
def test_accounts_with_different_versions_keep_working(stack):
    """The starter ignores fields that only a newer relay sends, and refuses an event with another version number."""
    newest = decisions(stack, "repository", "event-relay", "relayed")[-1]["commit"]
    (decision,) = job.repeat_relayed_event(stack, "test", newest, later=1, priority="high")["decisions"]
    assert (decision["outcome"], decision["commit"]) == ("started", newest)

    def newer_still():
        (decision,) = job.repeat_relayed_event(stack, "test", newest, later=2, version=2)["decisions"]
        assert decision["outcome"] == "refused" and "version is 2" in decision["reason"]

    starts_nothing(stack, newer_still)


def test_nobody_but_the_relay_reaches_the_bus_of_another_account(stack):
    """The bus refuses even an administrator of the repository account."""
    bus = stack.outputs("production")["EventBusArn"]
    entry = {"Source": "sekisho.relay", "DetailType": "Source Change", "Detail": "{}", "EventBusName": bus}
    events = stack.client("repository", "events")
    ran = len(executions(stack, "production"))
    try:
        answer = events.put_events(Entries=[entry])
    except events.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] in DENIED
    else:
        assert answer["FailedEntryCount"] == 1, answer
    assert len(executions(stack, "production")) == ran


def test_production_denies_an_artifact_without_its_key(stack):
    assert error_code(lambda: job.put_without_key(stack, "production", "shop/Source/wrong", b"x")) == "AccessDenied"
    bucket = stack.outputs("production")["ArtifactBucketName"]
    listed = stack.client("production", "s3").list_objects_v2(Bucket=bucket, Prefix="shop/Source/wrong")
    assert listed["KeyCount"] == 0


@pytest.mark.parametrize("profile", PIPELINE_ACCOUNTS)
def test_the_key_is_not_for_people(stack, commit, profile):
    """Even an administrator can't read an artifact, because the key's policy names the roles that may use the key."""
    job.wait_for_deployment(stack, profile, commit)
    s3, bucket = stack.client(profile, "s3"), stack.outputs(profile)["ArtifactBucketName"]
    artifact = s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"]
    assert error_code(lambda: s3.get_object(Bucket=bucket, Key=artifact)) in DENIED


def test_an_artifact_under_the_wrong_key_is_re_encrypted_and_otherwise_the_same(stack):
    body = bytes(range(256)) * 100
    written = job.put_without_key(stack, "test", "shop/Source/wrong", body)
    assert written["ServerSideEncryption"] == "AES256"
    head, content = job.wait_for_repair(stack, "test", "shop/Source/wrong")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert content == body
    job.wait_for_decision(stack, "test", "artifact-checker", 0, "repaired")


def test_access_for_a_minute_ends_by_the_policy_alone(stack):
    def about_person():
        found = decisions(stack, "production", "temp-access")
        return [one for one in found if (one.get("user"), one.get("profile")) == (PERSON, "admin")]

    iam = stack.client("production", "iam")
    assert error_code(lambda: job.list_functions_as_person(stack)) in DENIED

    answer = job.invoke(
        stack,
        "production",
        "temp-access",
        {"user": PERSON, "minutes": 1, "profile": "admin", "reason": "the shop is down"},
    )
    found = re.match(r"End time is (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", answer)
    assert found and len(answer) < 1000
    end = datetime.fromisoformat(found[1])
    assert timedelta(seconds=30) < end - datetime.now(UTC) <= timedelta(seconds=61)
    assert iam.list_user_policies(UserName=PERSON)["PolicyNames"] == ["sekisho-admin"]
    policy = iam.get_user_policy(UserName=PERSON, PolicyName="sekisho-admin")["PolicyDocument"]
    for statement in policy["Statement"]:
        assert statement["Condition"]["DateLessThan"]["aws:CurrentTime"] == found[1]
        assert "aws:CurrentTime" in statement["Condition"]["DateGreaterThan"]
    assert f"user/{PERSON}/admin" in [one["sk"] for one in grants(stack, "production")]
    assert "temp-access" in [one["FunctionName"] for one in job.list_functions_as_person(stack)]
    # Even while the access lasts, the boundary denies calls such as this one.
    person = stack.client(PERSON, "iam")
    assert error_code(lambda: person.create_user(UserName="another")) in DENIED
    decided = about_person()

    while datetime.now(UTC) <= end:
        time.sleep(0.2)
    assert error_code(lambda: job.list_functions_as_person(stack)) in DENIED
    # The policy is unchanged: the dates in the policy ended the access.
    assert iam.get_user_policy(UserName=PERSON, PolicyName="sekisho-admin")["PolicyDocument"] == policy
    assert about_person() == decided


def test_a_user_without_the_tag_is_refused_and_gets_no_policy(stack):
    iam = stack.client("production", "iam")
    iam.create_user(UserName="stranger", PermissionsBoundary=stack.outputs("production")["AccessBoundaryArn"])
    client = stack.client("production", "lambda")
    answer = client.invoke(FunctionName="temp-access", Payload=json.dumps({"user": "stranger"}).encode())
    assert "FunctionError" in answer
    assert json.loads(answer["Payload"].read())["errorType"] == "Refused"
    assert iam.list_user_policies(UserName="stranger")["PolicyNames"] == []


def test_every_account_has_the_functions_of_its_duties_only(stack):
    def functions(profile):
        return {one["FunctionName"] for one in stack.client(profile, "lambda").list_functions()["Functions"]}

    of_pipelines = {"sekisho-pipeline-starter", "sekisho-artifact-checker", "sekisho-artifact-sweeper"}
    assert functions("repository") == {"sekisho-event-relay"}
    for profile in job.PIPELINE_ACCOUNTS:
        assert functions(profile) - {job.APPLICATION_FUNCTION} == of_pipelines | {"temp-access"}
    assert (
        stack.outputs("production")["PipelineRoleArn"]
        == f"arn:aws:iam::{ACCOUNTS['production']}:role/sekisho-pipeline-{REGION}"
    )
