"""Faults in the delivery path, each described in the docstring of its function.

A fault changes the accounts, and returns the function that undoes the change.
"""

import copy
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from tests.local_cloud.accounts import document
from tests.template import deployed
from tests.template.deployed import Deployed
from tools.layout import ACCOUNTS, CONFIG, REGION, STACK, WORKLOADS

R, T = ACCOUNTS["repository"], ACCOUNTS["test"]
OTHER_ACCOUNT = "444444444444"
PARAMETERS = {
    "HostsPipelines": "true",
    "ManagesPipeline": "true",
    "GrantsAccess": "true",
    "ImageRepositoryName": "shop",
}
PARAMETERS_OF_REPOSITORY = {
    "HostsRepositories": "true",
    "ImageRepositoryName": "shop",
    "ImageReaderOrgPaths": WORKLOADS,
}
RELAY, SOURCE = f"sekisho-event-relay-{REGION}", f"sekisho-source-action-{REGION}"
STARTER, PIPELINE = f"sekisho-pipeline-starter-{REGION}", f"sekisho-pipeline-{REGION}"
BUCKET = f"sekisho-artifacts-{T}-{REGION}"

Undo = Callable[[], object]
Fault = Callable[[Deployed], Undo]


def layer(text: str) -> bytes:
    """Returns the zip of a layer with this text in sekisho.toml."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sekisho.toml", text)
    return file.getvalue()


def rule_disabled(account: str, name: str, bus: str = "default") -> Fault:
    """The rule is disabled."""

    def fault(cloud: Deployed) -> Undo:
        events = cloud.client(account, "events")
        events.disable_rule(Name=name, EventBusName=bus)
        return lambda: events.enable_rule(Name=name, EventBusName=bus)

    return fault


def rule_pattern(account: str, name: str, old: str, new: str, bus: str = "default") -> Fault:
    """The rule's pattern contains the text `new` in place of `old`."""

    def fault(cloud: Deployed) -> Undo:
        events = cloud.client(account, "events")
        pattern = events.describe_rule(Name=name, EventBusName=bus)["EventPattern"]
        assert old in pattern
        events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern.replace(old, new))
        return lambda: events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern)

    return fault


def without_statement(sid: str, account: str, role: str, name: str) -> Fault:
    """The role's policy lacks the statement with this Sid."""

    def fault(cloud: Deployed) -> Undo:
        iam = cloud.client(account, "iam")
        whole = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        less = {**whole, "Statement": [one for one in whole["Statement"] if one["Sid"] != sid]}
        assert less != whole

        def put(one: object) -> None:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(one))

        put(less)
        return lambda: put(whole)

    return fault


def permission_missing(cloud: Deployed) -> Undo:
    """The function's policy does not let the rule invoke it."""
    function, name = cloud.client(R, "lambda"), "sekisho-event-relay"
    statements = json.loads(function.get_policy(FunctionName=name)["Policy"])["Statement"]
    (statement,) = [one for one in statements if "sekisho-reconcile" in json.dumps(one)]
    function.remove_permission(FunctionName=name, StatementId=statement["Sid"])
    (rule,) = statement["Condition"]["ArnLike"].values()
    return lambda: function.add_permission(
        FunctionName=name,
        StatementId=statement["Sid"],
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )


def bus_admits_another_account(cloud: Deployed) -> Undo:
    """The stack is deployed for another repository account."""
    # CodePipeline accepts the pipeline only if the source role in the other account exists and trusts this account.
    trust = cloud.client(R, "iam").get_role(RoleName=SOURCE)["Role"]["AssumeRolePolicyDocument"]
    elsewhere = cloud.client(OTHER_ACCOUNT, "iam")
    elsewhere.create_role(RoleName=SOURCE, AssumeRolePolicyDocument=json.dumps(trust))
    cloudformation = cloud.client(T, "cloudformation")
    given = deployed.PARTNERS | PARAMETERS

    def update(parameters: dict[str, str]) -> None:
        cloudformation.update_stack(
            StackName=STACK,
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        waiter = cloudformation.get_waiter("stack_update_complete")
        waiter.wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    update(given | {"RepositoryAccountId": OTHER_ACCOUNT})

    def undo() -> None:
        update(given)
        elsewhere.delete_role(RoleName=SOURCE)

    return undo


def report_bus_admits_another_account(cloud: Deployed) -> Undo:
    """The policy of the repository account's bus names another account in place of the pipeline account."""
    events = cloud.client(R, "events")
    policy = events.describe_event_bus(Name="sekisho")["Policy"]
    assert T in policy

    def put(text: str) -> None:
        events.put_permission(EventBusName="sekisho", Policy=text)

    put(policy.replace(T, OTHER_ACCOUNT))
    return lambda: put(policy)


def starter_accepts_another_account(cloud: Deployed) -> Undo:
    """The environment of pipeline-starter names another account as the repository account."""
    function, name = cloud.client(T, "lambda"), "sekisho-pipeline-starter"
    variables = function.get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def put(more: dict[str, str]) -> None:
        function.update_function_configuration(FunctionName=name, Environment={"Variables": variables | more})

    put({"REPOSITORY_ACCOUNT_ID": OTHER_ACCOUNT})
    return lambda: put({})


def pipeline_deleted(cloud: Deployed) -> Undo:
    """The pipeline does not exist."""
    codepipeline = cloud.client(T, "codepipeline")
    pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
    codepipeline.delete_pipeline(name="shop")
    structure = {key: value for key, value in pipeline.items() if key != "version"}
    return lambda: codepipeline.create_pipeline(pipeline=structure)


def pipeline_with(change: Callable[[Any], object]) -> Fault:
    """Somebody has changed the pipeline's declaration."""

    def fault(cloud: Deployed) -> Undo:
        codepipeline = cloud.client(T, "codepipeline")
        pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
        changed = copy.deepcopy(pipeline)
        change(changed)
        codepipeline.update_pipeline(pipeline=changed)
        return lambda: codepipeline.update_pipeline(pipeline=pipeline)

    return fault


def source_with(change: Callable[[Any], object], action: int = 0) -> Fault:
    """Somebody has changed one of the pipeline's source actions: 0 is the template's, and 1 is the image's."""
    return pipeline_with(lambda pipeline: change(pipeline["stages"][0]["actions"][action]))


def source_role_trusts_another_account(cloud: Deployed) -> Undo:
    """The source role trusts another account."""
    iam = cloud.client(R, "iam")
    trust = json.dumps(iam.get_role(RoleName=SOURCE)["Role"]["AssumeRolePolicyDocument"])
    iam.update_assume_role_policy(RoleName=SOURCE, PolicyDocument=trust.replace(T, OTHER_ACCOUNT))
    return lambda: iam.update_assume_role_policy(RoleName=SOURCE, PolicyDocument=trust)


def repository_deleted(cloud: Deployed) -> Undo:
    """The repository does not exist."""
    codecommit = cloud.client(R, "codecommit")
    codecommit.delete_repository(repositoryName="shop")
    return lambda: codecommit.create_repository(repositoryName="shop")


def bucket_admits_another_account(cloud: Deployed) -> Undo:
    """The bucket's policy names another account."""
    s3 = cloud.client(T, "s3")
    text = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    s3.put_bucket_policy(Bucket=BUCKET, Policy=text.replace(R, OTHER_ACCOUNT))
    return lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy=text)


def key_disabled(cloud: Deployed) -> Undo:
    """The artifact key is disabled."""
    kms = cloud.client(T, "kms")
    key = kms.describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=key)
    return lambda: kms.enable_key(KeyId=key)


def key_admits_another_account(principal: str) -> Fault:
    """The key's policy names another account in place of the principal's account."""

    def fault(cloud: Deployed) -> Undo:
        kms = cloud.client(T, "kms")
        key = kms.describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
        text = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
        assert principal in text
        changed = text.replace(principal, principal.replace(principal[:12], OTHER_ACCOUNT))
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=changed)
        return lambda: kms.put_key_policy(KeyId=key, PolicyName="default", Policy=text)

    return fault


def other_config(function: str, account: str, change: Callable[[str], str]) -> Fault:
    """The sekisho.toml in the function's layer differs from the local one."""

    def fault(cloud: Deployed) -> Undo:
        functions = cloud.client(account, "lambda")
        text = CONFIG.read_text()
        assert change(text) != text
        content = {"ZipFile": layer(change(text))}
        version = functions.publish_layer_version(LayerName="sekisho-config", Content=content)["LayerVersionArn"]
        return with_layers(function, account, [version])(cloud)

    return fault


def with_layers(function: str, account: str, layers: list[str]) -> Fault:
    """The function has these layers in place of its own."""

    def fault(cloud: Deployed) -> Undo:
        functions = cloud.client(account, "lambda")
        configuration = functions.get_function_configuration(FunctionName=function)
        before = [one["Arn"] for one in configuration["Layers"]]
        functions.update_function_configuration(FunctionName=function, Layers=layers)
        return lambda: functions.update_function_configuration(FunctionName=function, Layers=before)

    return fault


def never_runs(account: str, function: str) -> Fault:
    """The function's reserved concurrency is 0."""

    def fault(cloud: Deployed) -> Undo:
        functions = cloud.client(account, "lambda")
        functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        return lambda: functions.delete_function_concurrency(FunctionName=function)

    return fault


def trusts_another_service(account: str, role: str) -> Fault:
    """The role trusts a service other than the service that must assume it."""

    def fault(cloud: Deployed) -> Undo:
        iam = cloud.client(account, "iam")
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]

        def put(statements: list[Any]) -> None:
            changed = json.dumps({**trust, "Statement": statements})
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=changed)

        put([statement | {"Principal": {"Service": "ec2.amazonaws.com"}} for statement in trust["Statement"]])
        return lambda: put(trust["Statement"])

    return fault


def managed_policy(cloud: Deployed, account: str, *statements: object) -> tuple[str, Undo]:
    """Creates a managed policy outside the stack, and returns its ARN and the function that deletes it."""
    iam = cloud.client(account, "iam")
    arn = iam.create_policy(PolicyName="guardrail", PolicyDocument=document([*statements]))["Policy"]["Arn"]
    return arn, lambda: iam.delete_policy(PolicyArn=arn)


def denied_by_managed_policy(account: str, role: str, action: str) -> Fault:
    """A managed policy that is attached to the role denies the action."""

    def fault(cloud: Deployed) -> Undo:
        iam = cloud.client(account, "iam")
        arn, delete = managed_policy(cloud, account, {"Effect": "Deny", "Action": action, "Resource": "*"})
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        return lambda: (iam.detach_role_policy(RoleName=role, PolicyArn=arn), delete())

    return fault


def limited_by_boundary(account: str, role: str, actions: list[str]) -> Fault:
    """The role has a permissions boundary that allows only these actions."""

    def fault(cloud: Deployed) -> Undo:
        iam = cloud.client(account, "iam")
        arn, delete = managed_policy(cloud, account, {"Effect": "Allow", "Action": actions, "Resource": "*"})
        iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=arn)
        return lambda: (iam.delete_role_permissions_boundary(RoleName=role), delete())

    return fault


def rule_starts_pipeline(bus: str, source: str = "aws.codecommit") -> Fault:
    """An older rule also starts the pipeline. The rule dates from the time before the pipeline had a route."""

    def fault(cloud: Deployed) -> Undo:
        events, name = cloud.client(T, "events"), "codepipeline-shop-main"
        if bus != "default":
            events.create_event_bus(Name=bus)
        events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": [source]}))
        target = {"Id": "pipeline", "Arn": f"arn:aws:codepipeline:{REGION}:{T}:shop"}
        events.put_targets(Rule=name, EventBusName=bus, Targets=[target])

        def undo() -> None:
            events.remove_targets(Rule=name, EventBusName=bus, Ids=["pipeline"])
            events.delete_rule(Name=name, EventBusName=bus)
            if bus != "default":
                events.delete_event_bus(Name=bus)

        return undo

    return fault


def repository_with_key(*, allows: bool) -> Fault:
    """The repository is under a customer managed key. `allows` tells whether the roles' policies allow its use."""

    def fault(cloud: Deployed) -> Undo:
        kms, codecommit, iam = cloud.client(R, "kms"), cloud.client(R, "codecommit"), cloud.client(R, "iam")
        administrators = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{R}:root"}, "Resource": "*"}
        key = kms.create_key(Policy=document([administrators | {"Action": ["kms:DescribeKey", "kms:PutKeyPolicy"]}]))
        arn = key["KeyMetadata"]["Arn"]
        codecommit.update_repository_encryption_key(repositoryName="shop", kmsKeyId=arn)
        if allows:
            use = document([{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": arn}])
            for role in (RELAY, SOURCE):
                iam.put_role_policy(RoleName=role, PolicyName="repository-key", PolicyDocument=use)

        def undo() -> None:
            codecommit.update_repository_encryption_key(repositoryName="shop", kmsKeyId="alias/aws/codecommit")
            for role in (RELAY, SOURCE) if allows else ():
                iam.delete_role_policy(RoleName=role, PolicyName="repository-key")

        return undo

    return fault


def build_with_key(key: str) -> Fault:
    """The CodeBuild project encrypts under another key."""

    def fault(cloud: Deployed) -> Undo:
        codebuild = cloud.client(T, "codebuild")
        before = codebuild.batch_get_projects(names=["shop"])["projects"][0]["encryptionKey"]
        codebuild.update_project(name="shop", encryptionKey=key)
        return lambda: codebuild.update_project(name="shop", encryptionKey=before)

    return fault


def role_created(account: str, path: str, name: str) -> Fault:
    """Somebody has created a role whose ARN looks like the ARN of a role of the stack."""

    def fault(cloud: Deployed) -> Undo:
        iam = cloud.client(account, "iam")
        trust = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=document([trust]))
        return lambda: iam.delete_role(RoleName=name)

    return fault
