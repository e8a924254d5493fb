"""The stand-in for CodePipeline: variables, source revisions, retried stages, and executions that an update cancels."""

import json
import time
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import TEST, allow, code
from tests.local_cloud.delivery import Delivery
from tools.layout import REGION


def prepared(cloud, work, name, **changes):
    """Returns a delivery whose pipeline waits for an approval, and the commit that it delivers."""
    repository = cloud.repository(name, work)
    commit = repository.commit({"README.md": "read"}, "First")
    repository.push("main")
    delivery = Delivery(cloud, TEST, name)
    delivery.client.create_pipeline(pipeline=delivery.structure(delivery.approval(), executionMode="QUEUED") | changes)
    return delivery, commit


def watched(cloud, name):
    """Returns a function that waits for some events about the whole pipeline, and returns their states and attempts."""
    url, queue = cloud.queue(TEST, f"{name}-events")
    events, kind = cloud.client("events", TEST), "CodePipeline Pipeline Execution State Change"
    pattern = {"source": ["aws.codepipeline"], "detail-type": [kind], "detail": {"pipeline": [name]}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue}])
    return lambda count: [
        (one["detail"]["state"], one["detail"]["pipeline-execution-attempt"])
        for one in cloud.messages(TEST, url, count)
    ]


def listed(delivery, execution):
    found = delivery.client.list_pipeline_executions(pipelineName=delivery.name)["pipelineExecutionSummaries"]
    (one,) = [one for one in found if one["pipelineExecutionId"] == execution]
    return [revision["revisionId"] for revision in one.get("sourceRevisions", [])]


def test_source_revisions_are_empty_until_the_source_action_has_run(cloud, tmp_path):
    delivery, commit = prepared(cloud, tmp_path, "late")
    first = delivery.start(commit)
    second = delivery.start(commit)
    # The first execution waits for its approval, so the second one has not begun.
    assert listed(delivery, second) == []
    found = delivery.client.get_pipeline_execution(pipelineName="late", pipelineExecutionId=second)
    assert found["pipelineExecution"]["artifactRevisions"] == []
    try:
        urllib.request.urlopen(f"{cloud.url}/_local-cloud/revisions/early", b"").close()
        assert listed(delivery, second) == [commit]
    finally:
        urllib.request.urlopen(f"{cloud.url}/_local-cloud/revisions/late", b"").close()
    delivery.answer("Approved")
    assert delivery.ended(first)["status"] == "Succeeded" and listed(delivery, first) == [commit]
    delivery.answer("Approved")
    assert delivery.ended(second)["status"] == "Succeeded" and listed(delivery, second) == [commit]


def test_variables_have_the_values_of_the_start_or_their_defaults(cloud, tmp_path):
    declared = [{"name": "TAG", "defaultValue": "none"}, {"name": "COMMIT", "defaultValue": "none"}]
    delivery, commit = prepared(cloud, tmp_path, "variables", variables=declared)
    stages = delivery.structure(delivery.approval(CustomData="#{variables.TAG} at #{variables.COMMIT}"))["stages"]
    structure = delivery.client.get_pipeline(name="variables")["pipeline"] | {"stages": stages}
    delivery.client.update_pipeline(pipeline=structure)
    execution = delivery.start(commit, variables=[{"name": "COMMIT", "value": commit}])
    delivery.answer("Approved")
    delivery.ended(execution)
    found = delivery.client.get_pipeline_execution(pipelineName="variables", pipelineExecutionId=execution)
    values = [{"name": "TAG", "resolvedValue": "none"}, {"name": "COMMIT", "resolvedValue": commit}]
    assert found["pipelineExecution"]["variables"] == values
    resolved = delivery.actions(execution)["Approval"]["input"]["resolvedConfiguration"]
    assert resolved == {"CustomData": f"none at {commit}"}
    with pytest.raises(ClientError) as caught:
        delivery.start(commit, variables=[{"name": "OTHER", "value": "1"}])
    assert code(caught) == "ValidationException"
    delivery.client.update_pipeline(pipeline=structure | {"variables": [{"name": "TAG"}]})
    with pytest.raises(ClientError) as caught:
        delivery.start(commit)
    assert code(caught) == "ValidationException"


def test_a_retried_stage_keeps_the_execution_and_counts_attempts(cloud, tmp_path):
    delivery, commit = prepared(cloud, tmp_path, "retried")
    events = watched(cloud, "retried")
    execution = delivery.start(commit)
    which = {"pipelineName": "retried", "stageName": "Deploy", "pipelineExecutionId": execution}

    def code_of(**other):
        with pytest.raises(ClientError) as caught:
            delivery.client.retry_stage_execution(**{"retryMode": "FAILED_ACTIONS"} | which | other)
        return code(caught)

    assert code_of() == "StageNotRetryableException"
    delivery.answer("Rejected")
    assert delivery.ended(execution)["status"] == "Failed"
    assert code_of(stageName="Nowhere") == "StageNotFoundException"
    assert code_of(stageName="Source") == "StageNotRetryableException"
    for status in ("Rejected", "Approved"):
        retried = delivery.client.retry_stage_execution(**which, retryMode="FAILED_ACTIONS")
        assert retried["pipelineExecutionId"] == execution
        delivery.answer(status)
        assert delivery.ended(execution)["status"] == {"Rejected": "Failed", "Approved": "Succeeded"}[status]
    found = events(6)
    assert found == [("STARTED", 1), ("FAILED", 1), ("RESUMED", 2), ("FAILED", 2), ("RESUMED", 3), ("SUCCEEDED", 3)]
    # The source action ran once.
    ran = delivery.client.list_action_executions(pipelineName="retried")["actionExecutionDetails"]
    assert sorted(one["actionName"] for one in ran) == ["Approval", "Approval", "Approval", "Source"]

    other = cloud.user(
        TEST,
        "retrier",
        [allow("codepipeline:RetryStageExecution", f"arn:aws:codepipeline:{REGION}:{TEST}:retried/Other")],
    )
    with pytest.raises(ClientError) as caught:
        cloud.client("codepipeline", TEST, other).retry_stage_execution(**which, retryMode="FAILED_ACTIONS")
    assert code(caught) == "AccessDeniedException"


def test_an_update_of_the_pipeline_cancels_its_executions(cloud, tmp_path):
    delivery, commit = prepared(cloud, tmp_path, "cancelled")
    events = watched(cloud, "cancelled")
    running, waiting = delivery.start(commit), delivery.start(commit)
    while "Approval" not in delivery.actions(running):
        time.sleep(0.05)
    structure = delivery.client.get_pipeline(name="cancelled")["pipeline"]
    delivery.client.update_pipeline(pipeline=structure)
    for execution in (running, waiting):
        found = delivery.client.get_pipeline_execution(pipelineName="cancelled", pipelineExecutionId=execution)
        assert found["pipelineExecution"]["status"] == "Cancelled"
    assert sorted(events(3)) == [("CANCELED", 1), ("CANCELED", 1), ("STARTED", 1)]
    again = delivery.start(commit)
    delivery.answer("Approved")
    assert delivery.ended(again)["status"] == "Succeeded"


def test_a_stop_abandons_an_approval_or_waits_for_its_answer(cloud, tmp_path):
    delivery, commit = prepared(cloud, tmp_path, "stopped")
    events = watched(cloud, "stopped")

    def stop(execution, **how):
        which = {"pipelineName": "stopped", "pipelineExecutionId": execution}
        return delivery.client.stop_pipeline_execution(**which, **how)["pipelineExecutionId"]

    def refusal(execution, **how):
        with pytest.raises(ClientError) as caught:
            stop(execution, **how)
        return code(caught)

    first, waiting = delivery.start(commit), delivery.start(commit)
    # An execution that waits for its turn stops at once, and its actions never run.
    assert stop(waiting) == waiting
    assert delivery.ended(waiting, 5)["status"] == "Stopped" and delivery.actions(waiting) == {}
    while "Approval" not in delivery.actions(first):
        time.sleep(0.05)
    stop(first, reason="a rollback follows")
    found = delivery.client.get_pipeline_execution(pipelineName="stopped", pipelineExecutionId=first)
    assert found["pipelineExecution"]["status"] == "Stopping"
    assert found["pipelineExecution"]["statusSummary"] == "a rollback follows"
    assert refusal(first) == "DuplicatedStopRequestException"
    stop(first, abandon=True)
    assert delivery.ended(first, 5)["status"] == "Stopped"
    assert delivery.actions(first)["Approval"]["status"] == "Abandoned"
    assert delivery.actions(first)["Approval"]["input"]["actionTypeId"]["category"] == "Approval"
    assert refusal(first, abandon=True) == "PipelineExecutionNotStoppableException"
    assert sorted(events(3)) == [("STARTED", 1), ("STOPPED", 1), ("STOPPED", 1)]

    # Without `abandon`, the stopped execution waits for the answer, and runs no further action.
    answered = delivery.start(commit)
    while "Approval" not in delivery.actions(answered):
        time.sleep(0.05)
    stop(answered)
    delivery.answer("Approved")
    assert delivery.actions(answered)["Approval"]["status"] in ("InProgress", "Succeeded")
    assert delivery.ended(answered)["status"] in ("Stopped", "Succeeded")
