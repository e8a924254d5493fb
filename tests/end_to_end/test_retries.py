"""An action that cannot read an artifact fails, and artifact-checker retries its stage after the repair.

With SEKISHO_RACES=20 in the environment and -s, the last test prints for so many executions which comes first: the
repair, or the action that reads the artifact.
"""

import json
import os
from datetime import datetime
from functools import partial

import pytest

from tools.layout import ACCOUNTS, CONFIG, PIPELINE
from tools.local_stack import job
from tools.local_stack.observed import decisions, execution_of, ledger, timed_decisions
from tools.local_stack.stack import eventually

PROFILE, CHECKER = "test", "sekisho-artifact-checker"
RACES = int(os.environ.get("SEKISHO_RACES", "3"))


@pytest.fixture(scope="module")
def wrong_key(stack):
    """A key that the source action may use, and the role of the pipeline may not. The pipeline names it."""
    roots = [f"arn:aws:iam::{ACCOUNTS[profile]}:root" for profile in ("repository", PROFILE)]
    allowed = {"Effect": "Allow", "Principal": {"AWS": roots}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    key = stack.client(PROFILE, "kms").create_key(Policy=policy)["KeyMetadata"]["Arn"]
    codepipeline = stack.client(PROFILE, "codepipeline")
    before = codepipeline.get_pipeline(name=PIPELINE)["pipeline"]
    store = before["artifactStore"] | {"encryptionKey": {"id": key, "type": "KMS"}}
    codepipeline.update_pipeline(pipeline=before | {"artifactStore": store})
    yield key
    codepipeline.update_pipeline(pipeline=before)


@pytest.fixture
def retry_stage(stack):
    """Switches `retry_stage` on, and off again after the tests."""
    text = CONFIG.read_text().replace('repair = "update"', 'repair = "update"\nretry_stage = true')
    variables = job.configure(stack, PROFILE, CHECKER, text)
    yield
    functions = stack.client(PROFILE, "lambda")
    functions.update_function_configuration(FunctionName=CHECKER, Environment={"Variables": variables})


def wait_for_end(stack, commit, *statuses):
    """Waits until the execution of the commit has one of these statuses, and returns the execution."""

    def probe():
        execution = execution_of(stack, PROFILE, commit)
        return execution if execution and execution["status"] in statuses else None

    return eventually(f"the execution of {commit[:8]} in {PROFILE} is {' or '.join(statuses)}", probe, 60)


def details(stack, execution):
    """The runs of the execution's actions, from the first to the last."""
    which = {"pipelineName": PIPELINE, "filter": {"pipelineExecutionId": execution["pipelineExecutionId"]}}
    return stack.client(PROFILE, "codepipeline").list_action_executions(**which)["actionExecutionDetails"][::-1]


def actions(stack, execution):
    """The name and the status of each run of the execution's actions."""
    return [(one["actionName"], one["status"]) for one in details(stack, execution)]


@pytest.mark.usefixtures("retry_stage")
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


@pytest.mark.usefixtures("wrong_key", "retry_stage")
def test_an_execution_whose_artifact_is_repaired_by_its_event_succeeds(stack, clone):
    before = len(decisions(stack, PROFILE, "artifact-checker", "retried"))
    commit = clone.commit(job.application() | {"api/pears.txt": "pears\n"}, "Sell pears, too", branch="main")
    clone.push("main")
    execution = wait_for_end(stack, commit, "Succeeded")
    runs = actions(stack, execution)
    retried = len(decisions(stack, PROFILE, "artifact-checker", "retried")) - before
    # Whichever comes first, the repair or the action that reads the artifact, the execution succeeds in the end.
    assert (("ChangeSet", "Failed") in runs) == (retried == 1), runs


def repairs(stack):
    """When artifact-checker recorded repairs, in seconds since 1970. If it retries nothing, it does so at once."""
    found = timed_decisions(stack, PROFILE, "artifact-checker")
    return [datetime.fromisoformat(at).timestamp() for at, decision in found if decision["outcome"] == "repaired"]


def is_repaired(stack, count):
    """Whether artifact-checker has recorded so many repairs."""
    return len(repairs(stack)) >= count


@pytest.mark.usefixtures("wrong_key")
def test_which_comes_first_the_repair_or_the_action_that_reads_the_artifact(stack, clone):
    """Either may come first. The times say how late an action has to begin so that it reads the repaired artifact."""
    codepipeline, first, read, repaired = stack.client(PROFILE, "codepipeline"), 0, [], []
    for race in range(RACES):
        count = len(repairs(stack)) + 1
        files = job.application() | {"api/plums.txt": f"plums {race}\n"}
        commit = clone.commit(files, f"Sell plums {race}", branch="main")
        clone.push("main")
        execution = wait_for_end(stack, commit, "Succeeded", "Failed")
        eventually("the artifact is repaired", partial(is_repaired, stack, count), 60)
        source, reader = details(stack, execution)[:2]
        written = source["lastUpdateTime"].timestamp()
        read.append(reader["startTime"].timestamp() - written)
        repaired.append(repairs(stack)[-1] - written)
        assert (source["status"], reader["actionName"]) == ("Succeeded", "ChangeSet")
        assert (reader["status"] == "Succeeded") == (execution["status"] == "Succeeded")
        if reader["status"] == "Succeeded":
            first += 1
            continue
        # The artifact is repaired now, so a retry by hand succeeds.
        which = {"pipelineName": PIPELINE, "pipelineExecutionId": execution["pipelineExecutionId"]}
        codepipeline.retry_stage_execution(**which, stageName="Deploy", retryMode="FAILED_ACTIONS")
        wait_for_end(stack, commit, "Succeeded")
    print(
        f"{RACES} executions: {first} repaired before the action read the artifact, {RACES - first} after. After the "
        f"end of the source action, the reading action began within {max(read):.1f} s, and the repair was recorded "
        f"within {max(repaired):.1f} s"
    )
