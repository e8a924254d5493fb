"""An action that cannot read an artifact fails, and artifact-checker retries its stage after the repair."""

import json

import pytest

from tools.layout import ACCOUNTS, CONFIG, PIPELINE
from tools.local_stack import job
from tools.local_stack.observed import decisions, execution_of, ledger
from tools.local_stack.stack import eventually

PROFILE, CHECKER = "test", "sekisho-artifact-checker"


@pytest.fixture(scope="module")
def wrong_key(stack):
    """A key that the source action may use, and the role of the pipeline may not. The pipeline names it."""
    roots = [f"arn:aws:iam::{ACCOUNTS[profile]}:root" for profile in ("repository", PROFILE)]
    allowed = {"Effect": "Allow", "Principal": {"AWS": roots}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    key = stack.client(PROFILE, "kms").create_key(Policy=policy)["KeyMetadata"]["Arn"]
    codepipeline, functions = stack.client(PROFILE, "codepipeline"), stack.client(PROFILE, "lambda")
    before = codepipeline.get_pipeline(name=PIPELINE)["pipeline"]
    store = before["artifactStore"] | {"encryptionKey": {"id": key, "type": "KMS"}}
    codepipeline.update_pipeline(pipeline=before | {"artifactStore": store})
    text = CONFIG.read_text().replace('repair = "update"', 'repair = "update"\nretry_stage = true')
    variables = job.configure(stack, PROFILE, CHECKER, text)
    yield key
    functions.update_function_configuration(FunctionName=CHECKER, Environment={"Variables": variables})
    codepipeline.update_pipeline(pipeline=before)


def wait_for_end(stack, commit, status):
    """Waits until the execution of the commit has this status, and returns the execution."""

    def probe():
        execution = execution_of(stack, PROFILE, commit)
        return execution if execution and execution["status"] == status else None

    return eventually(f"the execution of {commit[:8]} in {PROFILE} is {status}", probe, 60)


def actions(stack, execution):
    """The runs of the execution's actions, from the first to the last: the name and the status of each."""
    which = {"pipelineName": PIPELINE, "filter": {"pipelineExecutionId": execution["pipelineExecutionId"]}}
    details = stack.client(PROFILE, "codepipeline").list_action_executions(**which)["actionExecutionDetails"]
    return [(one["actionName"], one["status"]) for one in reversed(details)]


def test_a_failed_stage_is_retried_after_a_sweep_has_repaired_the_artifact(stack, clone, wrong_key):
    events, bucket = stack.client(PROFILE, "events"), stack.outputs(PROFILE)["ArtifactBucketName"]
    events.disable_rule(Name="sekisho-artifact-write")
    try:
        commit = clone.commit(job.application() | {"api/apples.txt": "apples\n"}, "Sell apples", branch="main")
        clone.push("main")
        execution = wait_for_end(stack, commit, "Failed")
    finally:
        events.enable_rule(Name="sekisho-artifact-write")
    assert actions(stack, execution) == [("Source", "Succeeded"), ("ChangeSet", "Failed")]
    answer = job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": bucket})
    assert answer["sweeps"][0]["outcomes"]["repaired"] >= 1
    execution = wait_for_end(stack, commit, "Succeeded")
    runs = [("Source", "Succeeded"), ("ChangeSet", "Failed"), ("ChangeSet", "Succeeded"), ("Execute", "Succeeded")]
    assert actions(stack, execution) == runs
    (retried,) = decisions(stack, PROFILE, "artifact-checker", "retried")
    assert (retried["pipeline"], retried["stage"]) == (PIPELINE, "Deploy")
    assert wrong_key in retried["reason"]

    def is_healthy():
        (row,) = [one for one in ledger(stack, PROFILE) if (one["pk"], one["sk"]) == ("order", PIPELINE)]
        return row["progress"] == {"ended": "healthy"}

    eventually("the order is healthy after the retry", is_healthy, 60)


@pytest.mark.usefixtures("wrong_key")
def test_an_execution_whose_artifact_is_repaired_by_its_event_succeeds(stack, clone):
    before = len(decisions(stack, PROFILE, "artifact-checker", "retried"))
    commit = clone.commit({"api/pears.txt": "pears\n"}, "Sell pears, too", branch="main")
    clone.push("main")
    execution = wait_for_end(stack, commit, "Succeeded")
    runs = actions(stack, execution)
    retried = len(decisions(stack, PROFILE, "artifact-checker", "retried")) - before
    # Whichever comes first, the repair or the action that reads the artifact, the execution succeeds in the end.
    assert (("ChangeSet", "Failed") in runs) == (retried == 1), runs
