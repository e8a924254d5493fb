"""Lambda pulls the image of a function as a service, so the repository's policy must admit Lambda by its source."""

import json
import time

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, REPOSITORY, TEST, allow, code, document
from tools.layout import REGION, WORKLOADS
from tools.local_stack.images import image, index, push

PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


def of_services(key: str) -> dict:
    """The statement that lets Lambda pull for the accounts of the unit, by this condition key."""
    condition = {"ForAnyValue:StringLike": {key: f"{WORKLOADS}*"}}
    return {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": PULL, "Condition": condition}


def shared(cloud, name: str, *statements: dict) -> str:
    ecr = cloud.client("ecr")
    ecr.create_repository(repositoryName=name)
    ecr.set_repository_policy(repositoryName=name, policyText=document(list(statements)))
    digest = push(ecr, name, image(name), "v1")
    return f"{REPOSITORY}.dkr.ecr.{REGION}.amazonaws.com/{name}@{digest}"


def create(cloud, account: str, name: str, uri: str):
    trusted = {"Service": "lambda.amazonaws.com"}
    role = cloud.role(account, name, trusted, [allow("logs:*")])
    functions = cloud.client("lambda", account)
    return functions, {"FunctionName": name, "Role": role, "PackageType": "Image", "Code": {"ImageUri": uri}}


def refused(call, **request) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return code(caught)


def test_lambda_pulls_for_the_accounts_of_the_unit_only(cloud):
    uri = shared(cloud, "for-lambda", of_services("aws:SourceOrgPaths"))
    for account in (TEST, PRODUCTION):
        functions, request = create(cloud, account, "pulled", uri)
        assert functions.create_function(**request)["PackageType"] == "Image"
    functions, request = create(cloud, OUTSIDE, "pulled", uri)
    assert refused(functions.create_function, **request) == "AccessDeniedException"


def test_the_account_of_the_repository_needs_a_statement_too(cloud):
    """The owner is outside the unit. On AWS, too, Lambda pulls as a service, even in the account of the repository."""
    of_unit = of_services("aws:SourceOrgPaths")
    own = of_unit | {"Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{REGION}:{REPOSITORY}:function:*"}}}
    functions, request = create(cloud, REPOSITORY, "refused", shared(cloud, "of-unit-only", of_unit))
    assert refused(functions.create_function, **request) == "AccessDeniedException"
    functions, request = create(cloud, REPOSITORY, "own", shared(cloud, "of-owner", own))
    assert functions.create_function(**request)["PackageType"] == "Image"
    functions, request = create(cloud, TEST, "foreign", request["Code"]["ImageUri"])
    assert refused(functions.create_function, **request) == "AccessDeniedException"


def test_a_service_is_no_principal_of_the_organization(cloud):
    everybody = of_services("aws:PrincipalOrgPaths") | {"Principal": "*"}
    for name, statement in (("by-people", everybody), ("by-service", of_services("aws:PrincipalOrgPaths"))):
        functions, request = create(cloud, TEST, name, shared(cloud, name, statement))
        assert refused(functions.create_function, **request) == "AccessDeniedException"


def test_an_image_must_exist_and_be_no_index(cloud):
    uri = shared(cloud, "kinds", of_services("aws:SourceOrgPaths"))
    several = push(cloud.client("ecr"), "kinds", index(image("one"), image("other")), "all")
    registry = uri.partition("@")[0]
    functions, request = create(cloud, TEST, "kinds", uri)
    functions.create_function(**request)
    for wrong in (f"{registry}@{several}", f"{registry}:all", f"{registry}:v9", uri.replace(REGION, "eu-west-1")):
        given = {"FunctionName": "kinds", "ImageUri": wrong}
        assert refused(functions.update_function_code, **given) == "InvalidParameterValueException", wrong
    assert functions.update_function_code(FunctionName="kinds", ImageUri=f"{registry}:v1")["PackageType"] == "Image"


def test_a_template_whose_image_cannot_be_pulled_fails(cloud):
    uri = shared(cloud, "by-template", of_services("aws:SourceOrgPaths"))
    for account, expected in ((TEST, "CREATE_COMPLETE"), (OUTSIDE, "ROLLBACK_COMPLETE")):
        _, request = create(cloud, account, "by-template", uri)
        properties = {"Code": {"ImageUri": uri}, "PackageType": "Image", "Role": request["Role"]}
        template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
        cloudformation = cloud.client("cloudformation", account)
        cloudformation.create_stack(StackName="by-template", TemplateBody=json.dumps(template))
        statuses: list[str] = []
        while not statuses or statuses[-1].endswith("_IN_PROGRESS"):
            time.sleep(0.1)
            statuses.append(cloudformation.describe_stacks(StackName="by-template")["Stacks"][0]["StackStatus"])
        assert statuses[-1] == expected
    events = cloudformation.describe_stack_events(StackName="by-template")["StackEvents"]
    assert any("permission to access the ECR image" in event.get("ResourceStatusReason", "") for event in events)
