"""`make deploy` protects the stack from deletion, and reports the solution if it has no permission to do so."""

from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.tools.faults import T
from tools.layout import REGION
from tools.operations.environment import SAMCONFIG, Environment, environment
from tools.operations.protection import protect

STACK = "protected"


@pytest.fixture
def target(cloud, monkeypatch):
    """An environment whose stack is deployed. Its session has the credentials of an administrator."""
    cloudformation = cloud.client(T, "cloudformation")
    body = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_stack(StackName=STACK, TemplateBody=body)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
    session = boto3.Session(aws_access_key_id=T, aws_secret_access_key="root", region_name=REGION)
    monkeypatch.setattr(Environment, "session", lambda _: session)
    yield replace(environment("local-test"), stack=STACK)
    cloudformation.update_termination_protection(StackName=STACK, EnableTerminationProtection=False)
    cloudformation.delete_stack(StackName=STACK)


def test_a_deployed_stack_cannot_be_deleted_by_mistake(cloud, target):
    assert protect(target) is None
    with pytest.raises(ClientError, match="TerminationProtection"):
        cloud.client(T, "cloudformation").delete_stack(StackName=STACK)


def test_an_environment_may_leave_the_protection_as_it_is(cloud, target):
    assert protect(replace(target, protected=False)) is None
    (stack,) = cloud.client(T, "cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    assert stack["EnableTerminationProtection"] is False


def test_a_refusal_is_a_step_that_remains(target):
    step = protect(replace(target, stack="missing"))
    assert step
    assert f"account {T}: stack missing has no termination protection" in step
    assert "bootstrap/deploy-role.yaml" in step
    assert "termination_protection = false under [local-test.sekisho]" in step


def test_samconfig_switches_the_protection_off(monkeypatch, tmp_path):
    text, head = SAMCONFIG.read_text(), "[local-test.sekisho]\n"
    assert head in text
    changed = tmp_path / "samconfig.toml"
    changed.write_text(text.replace(head, f"{head}termination_protection = false\n"))
    monkeypatch.setattr("tools.operations.environment.SAMCONFIG", changed)
    assert (environment("local-test").protected, environment("local-production").protected) == (False, True)
