"""The stand-in for CodePipeline: deliveries, permissions, modes, approvals, error codes, faults and templates."""

import json
import time
import urllib.request
import uuid

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, TEST, allow, code, document
from tests.local_cloud.delivery import Delivery, properties
from tools.layout import REGION

APPLICATION = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "%s"}}}})


def test_the_pinned_commit_is_delivered_under_the_right_key(cloud, tmp_path):
    shop = cloud.repository("delivered", tmp_path)
    delivery = Delivery(cloud, PRODUCTION, "delivered")
    url, queue = cloud.queue(PRODUCTION, "pipeline-events")
    events = cloud.client("events", PRODUCTION)
    events.put_rule(
        Name="pipeline",
        EventPattern=json.dumps({"source": ["aws.codepipeline"], "detail": {"pipeline": ["delivered"]}}),
    )
    events.put_targets(Rule="pipeline", Targets=[{"Id": "queue", "Arn": queue}])
    pinned = shop.commit({"app/template.json": APPLICATION % "first"}, "First")
    shop.commit({"app/template.json": APPLICATION % "second"}, "Second")
    shop.push("main")
    delivery.client.create_pipeline(pipeline=delivery.structure())

    token = uuid.uuid4().hex
    execution = delivery.start(pinned, clientRequestToken=token)
    assert delivery.start(pinned, clientRequestToken=token) == execution
    ended = delivery.ended(execution)
    assert ended["status"] == "Succeeded", delivery.actions(execution)
    assert ended["artifactRevisions"] == [{"name": "Source", "revisionId": pinned, "revisionSummary": "First"}]
    stack = cloud.client("cloudformation", PRODUCTION)
    (topic,) = stack.describe_stack_resources(StackName="delivered")["StackResources"]
    assert topic["PhysicalResourceId"].endswith(":first")

    source = delivery.actions(execution)["Source"]
    assert source["input"]["roleArn"] == delivery.source_role
    place = source["output"]["outputArtifacts"][0]["s3location"]
    assert place["bucket"] == delivery.bucket and place["key"].startswith("delivered/SourceArti/")
    head = delivery.s3.head_object(Bucket=place["bucket"], Key=place["key"])
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", delivery.key)
    # The key's policy lets only the pipeline's role read the artifact, so even an administrator is denied.
    with pytest.raises(ClientError) as caught:
        delivery.s3.get_object(Bucket=place["bucket"], Key=place["key"])
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    assert "because no resource-based policy allows the kms:Decrypt action" in str(caught.value)

    # As on AWS, an execution that is not pinned to a commit uses the head of the branch.
    assert delivery.ended(second := delivery.start())["status"] == "Succeeded"
    (topic,) = stack.describe_stack_resources(StackName="delivered")["StackResources"]
    assert topic["PhysicalResourceId"].endswith(":second")
    listed = delivery.client.list_pipeline_executions(pipelineName="delivered")["pipelineExecutionSummaries"]
    assert [one["pipelineExecutionId"] for one in listed] == [second, execution]
    assert listed[1]["sourceRevisions"] == [{"actionName": "Source", "revisionId": pinned, "revisionSummary": "First"}]

    received = cloud.messages(PRODUCTION, url, 20)
    mine = [
        (event["detail-type"].split()[1], event["detail"].get("action"), event["detail"]["state"])
        for event in received
        if event["detail"]["execution-id"] == execution
    ]
    assert sorted(mine, key=str) == sorted(
        [
            ("Pipeline", None, "STARTED"),
            ("Pipeline", None, "SUCCEEDED"),
            *[
                (what, action, state)
                for state in ("STARTED", "SUCCEEDED")
                for what, action in (("Stage", None), ("Stage", None), ("Action", "Source"), ("Action", "Deploy"))
            ],
        ],
        key=str,
    )
    assert {event["account"] for event in received} == {PRODUCTION}
    states = delivery.client.get_pipeline_state(name="delivered")["stageStates"]
    assert [stage["latestExecution"]["status"] for stage in states] == ["Succeeded", "Succeeded"]


def test_access_across_each_account_border_is_denied(cloud, tmp_path):
    shop = cloud.repository("borders", tmp_path)
    commit = shop.commit({"app/template.json": APPLICATION % "borders"})
    shop.push("main")
    delivery = Delivery(cloud, TEST, "borders")
    good = delivery.structure()
    delivery.client.create_pipeline(pipeline=good)

    def failure(action: str, start=lambda: delivery.start(commit), **changes) -> str:
        delivery.client.update_pipeline(pipeline=delivery.structure(**changes))
        return delivery.error(start(), action)

    # The bucket refuses an artifact that is under the S3 key of the repository account. If the bucket admits such an
    # artifact, the pipeline's role can't read it.
    store = {"type": "S3", "location": delivery.bucket}
    assert "PutObject operation: Access Denied" in failure("Source", artifactStore=store)
    policy = json.loads(delivery.s3.get_bucket_policy(Bucket=delivery.bucket)["Policy"])
    delivery.s3.put_bucket_policy(
        Bucket=delivery.bucket,
        Policy=document(
            [one for one in policy["Statement"] if one["Action"] != "s3:PutObject" or one["Effect"] == "Allow"]
        ),
    )
    assert "kms:Decrypt" in failure("Deploy", artifactStore=store)
    # CodePipeline looks up an alias in the account of the action's role.
    alias = store | {"encryptionKey": {"id": "alias/artifacts", "type": "KMS"}}
    delivery.kms.create_alias(AliasName="alias/artifacts", TargetKeyId=delivery.key)
    assert f"{REPOSITORY}:alias/artifacts' does not exist" in failure("Source", artifactStore=alias)
    # Only the pipeline's role may assume the action's role, and only CodePipeline may assume the pipeline's role.
    # The roles are correct when the pipeline is created, and change later. test_pipeline_roles.py tests the creation.
    trusts = [("borders-source", REPOSITORY, "borders-pipeline"), ("borders-pipeline", TEST, "codepipeline")]
    for role, account, trusted in trusts:
        delivery.client.update_pipeline(pipeline=good)
        iam = cloud.client("iam", account)
        trust = json.dumps(iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"])
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust.replace(trusted, "codebuild"))
        assert "AssumeRole" in delivery.error(delivery.start(commit), "Source")
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)
    with pytest.raises(ClientError):
        cloud.session(delivery.source_role, TEST)
    assert "does not exist" in failure("Source", start=lambda: delivery.start("0" * 40))
    assert "no file" in failure(
        "Deploy",
        stages=delivery.structure(
            delivery.deploy("Deploy", 1, ActionMode="CREATE_UPDATE", TemplatePath="SourceArtifact::none")
        )["stages"],
    )
    assert "iam:PassRole" in failure(
        "Deploy",
        stages=delivery.structure(
            delivery.deploy("Deploy", 1, ActionMode="CREATE_UPDATE", RoleArn=delivery.pipeline_role)
        )["stages"],
    )
    build = delivery.deploy("Build", 1) | {
        "actionTypeId": {"category": "Build", "owner": "AWS", "provider": "CodeBuild", "version": "1"}
    }
    assert "does not run Build by CodeBuild" in failure("Build", stages=delivery.structure(build)["stages"])


def test_change_set_approval_and_stop(cloud, tmp_path):
    shop = cloud.repository("approved", tmp_path)
    commit = shop.commit({"app/template.json": APPLICATION % "approved"}, "Approve me")
    shop.push("main")
    delivery = Delivery(cloud, TEST, "approved")
    approval = {
        "name": "Approval",
        "runOrder": 2,
        "configuration": {"CustomData": "#{Source.CommitMessage}"},
        "actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
    }
    delivery.client.create_pipeline(
        pipeline=delivery.structure(
            delivery.deploy("ChangeSet", 1, ActionMode="CHANGE_SET_REPLACE", ChangeSetName="next"),
            approval,
            delivery.deploy("Execute", 3, ActionMode="CHANGE_SET_EXECUTE", ChangeSetName="next"),
            executionMode="QUEUED",
        )
    )

    def token() -> str:
        for _ in range(200):
            actions = delivery.client.get_pipeline_state(name="approved")["stageStates"][1]["actionStates"]
            if "token" in actions[1].get("latestExecution", {}):
                return actions[1]["latestExecution"]["token"]
            time.sleep(0.05)
        pytest.fail("the approval has no token")

    execution = delivery.start(commit)
    waiting = delivery.start(commit)
    delivery.client.put_approval_result(
        pipelineName="approved",
        stageName="Deploy",
        actionName="Approval",
        result={"status": "Approved", "summary": "fine"},
        token=token(),
    )
    assert delivery.ended(execution)["status"] == "Succeeded", delivery.actions(execution)
    resolved = delivery.actions(execution)["Approval"]["input"]["resolvedConfiguration"]
    assert resolved == {"CustomData": "Approve me"}
    assert (
        cloud.client("cloudformation", TEST).describe_stacks(StackName="approved")["Stacks"][0]["StackStatus"]
        == "CREATE_COMPLETE"
    )
    # In mode QUEUED, the second execution begins after the first one. It is stopped while it waits for approval.
    token()
    which = {"pipelineName": "approved", "pipelineExecutionId": waiting}
    delivery.client.stop_pipeline_execution(**which, abandon=True, reason="enough")
    assert delivery.ended(waiting)["status"] == "Stopped"


def test_a_newer_execution_supersedes_one_that_waits(cloud, tmp_path):
    shop = cloud.repository("superseded", tmp_path)
    commit = shop.commit({"app/template.json": APPLICATION % "superseded"})
    shop.push("main")
    delivery = Delivery(cloud, TEST, "superseded")
    delivery.client.create_pipeline(pipeline=delivery.structure(delivery.approval()))
    first, second, third = [delivery.start(commit) for _ in range(3)]
    # The first one waits for its approval, and so the second one waits before the stage until the third one comes.
    assert delivery.ended(second)["status"] == "Superseded"
    for execution in (first, third):
        delivery.answer("Approved")
        assert delivery.ended(execution)["status"] == "Succeeded"


def test_errors_and_faults_have_codepipelines_codes(cloud, tmp_path):
    client = cloud.client("codepipeline", TEST)
    delivery = Delivery(cloud, TEST, "broken")
    cloud.repository("broken", tmp_path)

    def code_of(call) -> str:
        with pytest.raises(ClientError) as caught:
            call()
        return code(caught)

    assert code_of(lambda: client.start_pipeline_execution(name="none")) == "PipelineNotFoundException"
    client.create_pipeline(pipeline=delivery.structure())
    assert code_of(lambda: client.create_pipeline(pipeline=delivery.structure())) == "PipelineNameInUseException"
    assert (
        code_of(lambda: client.get_pipeline_execution(pipelineName="broken", pipelineExecutionId=str(uuid.uuid4())))
        == "PipelineExecutionNotFoundException"
    )
    assert (
        code_of(
            lambda: client.create_pipeline(
                pipeline=delivery.structure(name="short", stages=delivery.structure()["stages"][:1])
            )
        )
        == "InvalidStructureException"
    )
    assert (
        code_of(
            lambda: client.start_pipeline_execution(
                name="broken",
                sourceRevisions=[{"actionName": "Other", "revisionType": "COMMIT_ID", "revisionValue": "0" * 40}],
            )
        )
        == "ValidationException"
    )
    assert "broken" in [one["name"] for one in client.list_pipelines()["pipelines"]]
    starter = cloud.client(
        "codepipeline",
        TEST,
        cloud.user(
            TEST,
            "starter",
            [allow("codepipeline:StartPipelineExecution", f"arn:aws:codepipeline:{REGION}:{TEST}:other")],
        ),
    )
    assert code_of(lambda: starter.start_pipeline_execution(name="broken")) == "AccessDeniedException"

    def fault(**settings) -> None:
        urllib.request.urlopen(
            f"{cloud.url}/_local-cloud/faults", json.dumps({"account": TEST, "pipeline": "broken"} | settings).encode()
        ).close()

    fault(error="ThrottlingException", count=2)
    assert [code_of(delivery.start) for _ in range(2)] == ["ThrottlingException"] * 2
    fault(error="ConflictException", after=True)
    assert code_of(delivery.start) == "ConflictException"
    assert len(client.list_pipeline_executions(pipelineName="broken")["pipelineExecutionSummaries"]) == 1
    assert "BranchDoesNotExist" in delivery.error(delivery.start(), "Source")


def test_a_v1_pipeline_takes_no_pin_and_has_nothing_of_v2(cloud, tmp_path):
    shop = cloud.repository("older", tmp_path)
    commit = shop.commit({"app/template.json": APPLICATION % "older"})
    shop.push("main")
    delivery = Delivery(cloud, TEST, "older")
    untyped = {key: value for key, value in delivery.structure().items() if key != "pipelineType"}
    made = delivery.client.create_pipeline(pipeline=untyped)["pipeline"]
    assert (made["pipelineType"], made["executionMode"]) == ("V1", "SUPERSEDED")
    with pytest.raises(ClientError) as caught:
        delivery.start(commit)
    assert code(caught) == "ValidationException"
    assert delivery.ended(delivery.start())["status"] == "Succeeded"
    for only_v2 in ({"executionMode": "QUEUED"}, {"variables": [{"name": "TAG", "defaultValue": "none"}]}):
        with pytest.raises(ClientError) as caught:
            delivery.client.update_pipeline(pipeline=untyped | {"pipelineType": "V1"} | only_v2)
        assert code(caught) == "InvalidStructureException"
        # If the type is missing, the properties that only V2 has make the pipeline a V2 pipeline.
        assert delivery.client.update_pipeline(pipeline=untyped | only_v2)["pipeline"]["pipelineType"] == "V2"
    assert delivery.ended(delivery.start(commit))["status"] == "Succeeded"


def test_a_template_creates_repository_and_pipeline(cloud):
    delivery = Delivery(cloud, TEST, "templated")

    body = json.dumps(
        {
            "Resources": {
                "Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": properties(delivery.structure())}
            },
            "Outputs": {"Name": {"Value": {"Ref": "Pipeline"}}},
        }
    )
    here = cloud.client("cloudformation", TEST)
    here.create_stack(StackName="templated-pipeline", TemplateBody=body)
    here.get_waiter("stack_create_complete").wait(StackName="templated-pipeline", WaiterConfig={"Delay": 1})
    made = delivery.client.get_pipeline(name="templated")["pipeline"]
    assert made["stages"][0]["actions"][0]["configuration"]["RepositoryName"] == "templated"
    assert made["artifactStore"]["encryptionKey"] == {"id": delivery.key, "type": "KMS"}
    here.delete_stack(StackName="templated-pipeline")
    here.get_waiter("stack_delete_complete").wait(StackName="templated-pipeline", WaiterConfig={"Delay": 1})
    assert "templated" not in [one["name"] for one in delivery.client.list_pipelines()["pipelines"]]

    there = cloud.client("cloudformation")
    there.create_stack(
        StackName="templated-repository",
        TemplateBody=json.dumps(
            {
                "Resources": {
                    "Repository": {"Type": "AWS::CodeCommit::Repository", "Properties": {"RepositoryName": "templated"}}
                },
                "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Repository", "Arn"]}}},
            }
        ),
    )
    there.get_waiter("stack_create_complete").wait(StackName="templated-repository", WaiterConfig={"Delay": 1})
    assert (cloud.data / "repositories" / "templated.git" / "HEAD").read_text() == "ref: refs/heads/main\n"
