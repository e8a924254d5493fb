"""CreatePipeline and UpdatePipeline check whether the pipeline's roles can be assumed, as on AWS."""

import json
import time

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, TEST, code, document
from tests.local_cloud.delivery import Delivery, properties


def refused(call, who, role):
    """Checks that the call is refused with the error that AWS returns."""
    with pytest.raises(ClientError) as caught:
        call()
    assert code(caught) == "InvalidStructureException"
    assert f"{who} is not authorized to perform AssumeRole on role {role}" in str(caught.value)


def test_a_source_role_that_does_not_exist_yet_is_refused(cloud):
    delivery = Delivery(cloud, TEST, "early")
    missing = f"arn:aws:iam::{REPOSITORY}:role/not-yet"
    structure = delivery.structure()
    structure["stages"][0]["actions"][0]["roleArn"] = missing
    refused(lambda: delivery.client.create_pipeline(pipeline=structure), delivery.pipeline_role, missing)
    assert "early" not in [one["name"] for one in delivery.client.list_pipelines()["pipelines"]]


def test_both_policies_and_the_service_decide_at_creation_and_at_each_update(cloud):
    delivery = Delivery(cloud, PRODUCTION, "checked")
    iam, repositories = cloud.client("iam", PRODUCTION), cloud.client("iam", REPOSITORY)
    structure = delivery.structure()
    trust = repositories.get_role(RoleName="checked-source")["Role"]["AssumeRolePolicyDocument"]
    other = json.dumps(trust).replace("checked-pipeline", "somebody-else")

    repositories.update_assume_role_policy(RoleName="checked-source", PolicyDocument=other)
    refused(lambda: delivery.client.create_pipeline(pipeline=structure), delivery.pipeline_role, delivery.source_role)
    repositories.update_assume_role_policy(RoleName="checked-source", PolicyDocument=json.dumps(trust))
    delivery.client.create_pipeline(pipeline=structure)

    def update():
        delivery.client.update_pipeline(pipeline=structure)

    own = iam.get_role_policy(RoleName="checked-pipeline", PolicyName="own")["PolicyDocument"]
    less = [one for one in own["Statement"] if one["Action"] != "sts:AssumeRole"]
    iam.put_role_policy(RoleName="checked-pipeline", PolicyName="own", PolicyDocument=document(less))
    refused(update, delivery.pipeline_role, delivery.source_role)
    iam.put_role_policy(RoleName="checked-pipeline", PolicyName="own", PolicyDocument=json.dumps(own))
    update()

    ours = json.dumps(iam.get_role(RoleName="checked-pipeline")["Role"]["AssumeRolePolicyDocument"])
    iam.update_assume_role_policy(
        RoleName="checked-pipeline", PolicyDocument=ours.replace("codepipeline.amazonaws.com", "ec2.amazonaws.com")
    )
    refused(update, "CodePipeline", delivery.pipeline_role)


def test_a_template_with_such_a_pipeline_is_rolled_back(cloud):
    delivery = Delivery(cloud, TEST, "rolled-back")
    missing = f"arn:aws:iam::{REPOSITORY}:role/not-yet"
    structure = delivery.structure()
    structure["stages"][0]["actions"][0]["roleArn"] = missing
    body = {"Resources": {"Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": properties(structure)}}}
    cloudformation = cloud.client("cloudformation", TEST)
    cloudformation.create_stack(StackName="rolled-back", TemplateBody=json.dumps(body))
    end = time.monotonic() + 20
    while (status := cloudformation.describe_stacks(StackName="rolled-back")["Stacks"][0]["StackStatus"]) != (
        "ROLLBACK_COMPLETE"
    ):
        assert time.monotonic() < end, status
        time.sleep(0.1)
    events = cloudformation.describe_stack_events(StackName="rolled-back")["StackEvents"]
    (reason,) = [one["ResourceStatusReason"] for one in events if one["ResourceStatus"] == "CREATE_FAILED"]
    assert "InvalidStructureException" in reason
    assert f"{delivery.pipeline_role} is not authorized to perform AssumeRole on role {missing}" in reason
