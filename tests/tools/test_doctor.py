"""What operators run: `make deploy` refuses another account's credentials, `make doctor` names each broken link."""

import contextlib
import copy
import importlib
import io
import json
import os
import subprocess
import sys
import types
import zipfile

import pytest

from tests.template import deployed
from tests.template.deployed import REGION, ROOT

R, T = "111111111111", "222222222222"
CONFIG = ROOT / "config" / "sekisho.toml"
PIPELINES = {"HostsPipelines": "true", "ManagesPipeline": "true", "GrantsAccess": "true"}
RELAY, SOURCE = f"sekisho-event-relay-{REGION}", f"sekisho-source-action-{REGION}"
STARTER, PIPELINE = f"sekisho-pipeline-starter-{REGION}", f"sekisho-pipeline-{REGION}"
BUCKET = f"sekisho-artifacts-{T}-{REGION}"


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    """Both accounts deployed, with repository and pipeline; and an AWS config with the profiles of samconfig.toml."""
    with deployed.cloud() as cloud:
        template = deployed.expanded()
        for one in (one for one in template["Resources"].values() if one["Type"] == "AWS::Lambda::LayerVersion"):
            one["Properties"]["Content"] = {"S3Bucket": {"Fn::Sub": "layers-${AWS::AccountId}"}, "S3Key": "config"}
        for account, duties in ((R, {"HostsRepositories": "true"}), (T, PIPELINES)):
            s3 = cloud.client(account, "s3")
            s3.create_bucket(Bucket=f"layers-{account}", CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.put_object(Bucket=f"layers-{account}", Key="config", Body=layer(CONFIG.read_text()))
            cloud.deploy(account, deployed.PARTNERS | duties, template)
        cloud.client(R, "codecommit").create_repository(repositoryName="shop")
        cloud.config = tmp_path_factory.mktemp("aws") / "config"
        write_config(cloud, repository=R, test=T)
        yield cloud


def layer(text):
    """The zip of a layer with this sekisho.toml."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sekisho.toml", text)
    return file.getvalue()


def write_config(cloud, **accounts):
    cloud.config.write_text(
        "".join(
            f"[profile {name}]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
            f"aws_access_key_id = {account}\naws_secret_access_key = root\n"
            for name, account in accounts.items()
        )
    )


def run(cloud, script, environment, *more, **variables):
    # The machine's own credentials and settings must not show through.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--env", environment, *more],
        capture_output=True,
        text=True,
        check=False,
        env=clean | {"AWS_CONFIG_FILE": str(cloud.config), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} | variables,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def as_deployer(way, tmp_path_factory):
    """The same accounts through the role of bootstrap/deploy-role.yaml, taken by a user of the repository account."""
    user = f"arn:aws:iam::{R}:user/me"
    for account in (R, T):
        cloudformation = way.client(account, "cloudformation")
        cloudformation.create_stack(
            StackName="sekisho-deploy",
            TemplateBody=(ROOT / "bootstrap" / "deploy-role.yaml").read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": "DeployerAccountId", "ParameterValue": R},
                {"ParameterKey": "DeployerArns", "ParameterValue": user},
            ],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName="sekisho-deploy", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        # The emulator takes rules of the default bus, and a bus, for rule/default/…, and targets for the bus; AWS for rule/… and the bus.
        mistaken = [
            f"arn:aws:events:{REGION}:{account}:{one}" for one in ("rule/default/sekisho*", "event-bus/default")
        ]
        more = [
            {
                "Effect": "Allow",
                "Action": ["events:DescribeEventBus", "events:DescribeRule", "events:ListTargetsByRule"],
                "Resource": mistaken,
            },
            # And GetLayerVersion for ListLayers.
            {"Effect": "Allow", "Action": "lambda:ListLayers", "Resource": "*"},
        ]
        way.client(account, "iam").put_role_policy(
            RoleName=f"sekisho-deploy-{REGION}",
            PolicyName="emulator",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": more}),
        )
    iam, roles = (
        way.client(R, "iam"),
        {
            name: f"arn:aws:iam::{account}:role/sekisho-deploy-{REGION}"
            for name, account in (("repository", R), ("test", T))
        },
    )
    iam.create_user(UserName="me")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": list(roles.values())}
    iam.put_user_policy(
        UserName="me",
        PolicyName="deploys",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName="me")["AccessKey"]
    config = tmp_path_factory.mktemp("deployer") / "config"
    common = f"region = {REGION}\nendpoint_url = {way.endpoint}\n"
    config.write_text(
        f"[profile me]\n{common}aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
        + "".join(f"[profile {name}]\n{common}role_arn = {role}\nsource_profile = me\n" for name, role in roles.items())
    )
    return types.SimpleNamespace(config=config)


@pytest.fixture
def scripts(monkeypatch):
    """Gives a module of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def rule_off(cloud):
    events = cloud.client(R, "events")
    events.disable_rule(Name="sekisho-repository-change")
    return lambda: events.enable_rule(Name="sekisho-repository-change")


def starter_rule_off(cloud):
    events = cloud.client(T, "events")
    events.disable_rule(Name="sekisho-source-change", EventBusName="sekisho")
    return lambda: events.enable_rule(Name="sekisho-source-change", EventBusName="sekisho")


def without(sid, account, role, policy):
    """Takes a statement out of a role's policy."""

    def broken(cloud):
        iam = cloud.client(account, "iam")
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        less = {**document, "Statement": [one for one in document["Statement"] if one["Sid"] != sid]}
        assert less != document
        put = lambda one: iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(one))
        put(less)
        return lambda: put(document)

    return broken


def permission_gone(cloud):
    function = cloud.client(R, "lambda")
    statements = json.loads(function.get_policy(FunctionName="sekisho-event-relay")["Policy"])["Statement"]
    (one,) = [one for one in statements if "sekisho-reconcile" in json.dumps(one)]
    function.remove_permission(FunctionName="sekisho-event-relay", StatementId=one["Sid"])
    (rule,) = one["Condition"]["ArnLike"].values()
    return lambda: function.add_permission(
        FunctionName="sekisho-event-relay",
        StatementId=one["Sid"],
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )


def bus_closed(cloud):
    """As it happens: the stack deals with another account."""
    cloudformation = cloud.client(T, "cloudformation")
    given = deployed.PARTNERS | PIPELINES

    def update(parameters):
        cloudformation.update_stack(
            StackName=deployed.STACK,
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_update_complete").wait(
            StackName=deployed.STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    update(given | {"RepositoryAccountId": "444444444444"})
    return lambda: update(given)


def starter_believes_another(cloud):
    function = cloud.client(T, "lambda")
    variables = function.get_function_configuration(FunctionName="sekisho-pipeline-starter")["Environment"]["Variables"]
    put = lambda more: function.update_function_configuration(
        FunctionName="sekisho-pipeline-starter", Environment={"Variables": variables | more}
    )
    put({"REPOSITORY_ACCOUNT_ID": "444444444444"})
    return lambda: put({})


def pipeline_gone(cloud):
    codepipeline = cloud.client(T, "codepipeline")
    pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
    codepipeline.delete_pipeline(name="shop")
    return lambda: codepipeline.create_pipeline(
        pipeline={key: value for key, value in pipeline.items() if key != "version"}
    )


def pipeline_with(change):
    """Changes the pipeline's declaration."""

    def broken(cloud):
        codepipeline = cloud.client(T, "codepipeline")
        pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
        changed = copy.deepcopy(pipeline)
        change(changed)
        codepipeline.update_pipeline(pipeline=changed)
        return lambda: codepipeline.update_pipeline(pipeline=pipeline)

    return broken


def source(pipeline):
    return pipeline["stages"][0]["actions"][0]


def trust_gone(cloud):
    iam = cloud.client(R, "iam")
    trust = iam.get_role(RoleName=SOURCE)["Role"]["AssumeRolePolicyDocument"]
    put = lambda text: iam.update_assume_role_policy(RoleName=SOURCE, PolicyDocument=text)
    put(json.dumps(trust).replace(T, "444444444444"))
    return lambda: put(json.dumps(trust))


def repository_gone(cloud):
    codecommit = cloud.client(R, "codecommit")
    codecommit.delete_repository(repositoryName="shop")
    return lambda: codecommit.create_repository(repositoryName="shop")


def bucket_closed(cloud):
    s3 = cloud.client(T, "s3")
    policy = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    s3.put_bucket_policy(Bucket=BUCKET, Policy=policy.replace(R, "444444444444"))
    return lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)


def key_off(cloud):
    kms = cloud.client(T, "kms")
    key = kms.describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=key)
    return lambda: kms.enable_key(KeyId=key)


def key_closed(whom):
    """The key's policy names somebody else."""

    def broken(cloud):
        kms = cloud.client(T, "kms")
        key = kms.describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
        policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
        put = lambda text: kms.put_key_policy(KeyId=key, PolicyName="default", Policy=text)
        assert whom in policy
        put(policy.replace(whom, whom.replace(whom[:12], "444444444444")))
        return lambda: put(policy)

    return broken


def config_of(function, account, change):
    """The function has another config than the one here: an older layer, or none."""

    def broken(cloud):
        functions = cloud.client(account, "lambda")
        before = [one["Arn"] for one in functions.get_function_configuration(FunctionName=function)["Layers"]]
        put = lambda arns: functions.update_function_configuration(FunctionName=function, Layers=arns)
        text = CONFIG.read_text()
        assert change is None or change(text) != text
        put(
            [
                functions.publish_layer_version(LayerName="sekisho-config", Content={"ZipFile": layer(change(text))})[
                    "LayerVersionArn"
                ]
            ]
            if change
            else []
        )
        return lambda: put(before)

    return broken


def rule_looks(account, name, old, new, bus="default"):
    """The rule's pattern has another text in it."""

    def broken(cloud):
        events = cloud.client(account, "events")
        pattern = events.describe_rule(Name=name, EventBusName=bus)["EventPattern"]
        assert old in pattern
        put = lambda text: events.put_rule(Name=name, EventBusName=bus, EventPattern=text)
        put(pattern.replace(old, new))
        return lambda: put(pattern)

    return broken


def never_runs(account, function):
    def broken(cloud):
        functions = cloud.client(account, "lambda")
        functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        return lambda: functions.delete_function_concurrency(FunctionName=function)

    return broken


def trusts_another(account, role):
    """The role trusts another service than the one that has to take it."""

    def broken(cloud):
        iam = cloud.client(account, "iam")
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        put = lambda document: iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(document))
        put(
            {
                **trust,
                "Statement": [one | {"Principal": {"Service": "ec2.amazonaws.com"}} for one in trust["Statement"]],
            }
        )
        return lambda: put(trust)

    return broken


def managed(cloud, account, *statements):
    """A managed policy of somebody else, and how it goes away."""
    iam = cloud.client(account, "iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    arn = iam.create_policy(PolicyName="guardrail", PolicyDocument=document)["Policy"]["Arn"]
    return arn, lambda: iam.delete_policy(PolicyArn=arn)


def denied_by_managed(account, role, action):
    """A managed policy is attached that denies."""

    def broken(cloud):
        iam = cloud.client(account, "iam")
        arn, away = managed(cloud, account, {"Effect": "Deny", "Action": action, "Resource": "*"})
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        return lambda: (iam.detach_role_policy(RoleName=role, PolicyArn=arn), away())

    return broken


def bounded(account, role, actions):
    """The role has a permissions boundary."""

    def broken(cloud):
        iam = cloud.client(account, "iam")
        arn, away = managed(cloud, account, {"Effect": "Allow", "Action": actions, "Resource": "*"})
        iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=arn)
        return lambda: (iam.delete_role_permissions_boundary(RoleName=role), away())

    return broken


TRIGGER = {
    "providerType": "CodeStarSourceConnection",
    "gitConfiguration": {"sourceActionName": "Source", "push": [{"branches": {"includes": ["main"]}}]},
}


ROUTE = f"""[[route]]
repository = "more"
tags = ["v*"]
[[route.target]]
account = "{T}"
region = "{REGION}"
pipeline = "shop"
action = "Source"
"""

LINKS = [
    # number of the hop, how it is broken, what is said, what mends it
    (
        1,
        config_of("sekisho-event-relay", R, lambda text: text.replace('"release/*"', '"next"')),
        "account 111111111111 has no route of shop (branches main, release/*",
        "make deploy ENV=local-repository",
    ),
    (
        1,
        config_of("sekisho-event-relay", R, lambda text: ROUTE + text),
        "account 111111111111 has a route of more (tags v*)",
        "make deploy ENV=local-repository",
    ),
    (
        1,
        config_of("sekisho-pipeline-starter", T, lambda text: text.replace(T, "444444444444")),
        "account 222222222222 has no route of shop",
        "make deploy ENV=local-test",
    ),
    (1, config_of("sekisho-pipeline-starter", T, None), "has no layer sekisho-config", "make deploy ENV=local-test"),
    (2, rule_off, "rule sekisho-repository-change of account 111111111111 is DISABLED", "aws events enable-rule"),
    (2, permission_gone, "does not let rule sekisho-reconcile invoke it", "make deploy ENV=local-repository"),
    (
        2,
        rule_looks(R, "sekisho-repository-change", "aws.codecommit", "aws.codebuild"),
        "looks for",
        "make deploy ENV=local-repository",
    ),
    (
        2,
        rule_looks(R, "sekisho-repository-change", "Repository State", "Comment State"),
        "looks for",
        "make deploy ENV=local-repository",
    ),
    (
        3,
        never_runs(R, "sekisho-event-relay"),
        "its reserved concurrency is 0",
        "delete-function-concurrency --function-name sekisho-event-relay",
    ),
    (3, trusts_another(R, RELAY), "does not trust lambda.amazonaws.com", "make deploy ENV=local-repository"),
    (3, without("Ledger", R, RELAY, "event-relay"), "may not keep the ledger", "make deploy ENV=local-repository"),
    (3, without("ReadRepositories", R, RELAY, "event-relay"), "may not read shop", "make deploy ENV=local-repository"),
    (
        3,
        denied_by_managed(R, RELAY, "codecommit:GetBranch"),
        "may not read shop (codecommit:GetBranch)",
        "make deploy ENV=local-repository",
    ),
    (4, without("Relay", R, RELAY, "event-relay"), "may not put events on", "add 222222222222 to PipelineAccountIds"),
    (
        4,
        bounded(R, RELAY, ["dynamodb:*", "codecommit:*"]),
        "may not put events on",
        "add 222222222222 to PipelineAccountIds",
    ),
    (
        5,
        bus_closed,
        "does not let arn:aws:iam::111111111111:role/sekisho-event-relay",
        "set RepositoryAccountId=111111111111",
    ),
    (6, starter_rule_off, "rule sekisho-source-change of account 222222222222 is DISABLED", "--event-bus-name sekisho"),
    (
        6,
        rule_looks(T, "sekisho-source-change", "sekisho.relay", "sekisho.other", "sekisho"),
        "looks for",
        "make deploy ENV=local-test",
    ),
    (
        6,
        rule_looks(T, "sekisho-source-change", "Source Change", "Source", "sekisho"),
        "looks for",
        "make deploy ENV=local-test",
    ),
    (6, starter_believes_another, "pipeline-starter believes another account", "set RepositoryAccountId=111111111111"),
    (
        7,
        never_runs(T, "sekisho-pipeline-starter"),
        "its reserved concurrency is 0",
        "delete-function-concurrency --function-name sekisho-pipeline-starter",
    ),
    (7, trusts_another(T, STARTER), "does not trust lambda.amazonaws.com", "make deploy ENV=local-test"),
    (7, without("Ledger", T, STARTER, "pipeline-starter"), "may not keep the ledger", "make deploy ENV=local-test"),
    (7, without("Start", T, STARTER, "pipeline-starter"), "may not start shop", "make deploy ENV=local-test"),
    (8, pipeline_gone, "has no pipeline shop", "ManagesPipeline=true"),
    (
        8,
        pipeline_with(lambda pipeline: source(pipeline)["configuration"].update(RepositoryName="other")),
        "takes repository other, and the route is of shop",
        "correct the route",
    ),
    (
        8,
        pipeline_with(lambda pipeline: source(pipeline)["configuration"].update(BranchName="release/1/2")),
        "takes branch release/1/2",
        "update-pipeline",
    ),
    (
        8,
        pipeline_with(lambda pipeline: source(pipeline).update(region="eu-west-1")),
        "takes its source in eu-west-1",
        "update-pipeline",
    ),
    (
        9,
        pipeline_with(lambda pipeline: source(pipeline)["configuration"].update(PollForSourceChanges="true")),
        "polls and would run twice",
        "update-pipeline",
    ),
    (
        9,
        pipeline_with(lambda pipeline: pipeline.update(triggers=[TRIGGER])),
        "has a trigger of its own",
        "update-pipeline",
    ),
    (
        9,
        pipeline_with(lambda pipeline: pipeline["artifactStore"].update(location="another-bucket")),
        "keeps artifacts in another-bucket",
        "update-pipeline",
    ),
    (
        9,
        pipeline_with(lambda pipeline: pipeline["artifactStore"]["encryptionKey"].update(id="alias/sekisho-artifacts")),
        "full ARN",
        "update-pipeline",
    ),
    (
        9,
        pipeline_with(lambda pipeline: source(pipeline).pop("roleArn")),
        "takes None, not arn:aws:iam::111111111111",
        "update-pipeline",
    ),
    (10, trusts_another(T, PIPELINE), "does not trust codepipeline.amazonaws.com", "make deploy ENV=local-test"),
    (10, without("TakeSource", T, PIPELINE, "pipeline"), "may not take", "RepositoryAccountId=111111111111"),
    (
        10,
        trust_gone,
        "does not let arn:aws:iam::222222222222:role/sekisho-pipeline",
        "add 222222222222 to PipelineAccountIds",
    ),
    (11, repository_gone, "has no repository shop", "make it there"),
    (
        11,
        without("ReadRepositories", R, SOURCE, "source-action"),
        "may not read shop",
        "make deploy ENV=local-repository",
    ),
    (
        12,
        without("PutSource", R, SOURCE, "source-action"),
        "may not write to",
        "add 222222222222 to PipelineAccountIds",
    ),
    (12, bucket_closed, f"bucket {BUCKET} does not let", "set RepositoryAccountId=111111111111"),
    (13, key_off, "is Disabled", "aws kms enable-key"),
    (
        13,
        without("EncryptSource", R, SOURCE, "source-action"),
        "(kms:GenerateDataKey)",
        "make deploy ENV=local-repository",
    ),
    (
        13,
        key_closed(R),
        "does not let arn:aws:iam::111111111111:role/sekisho-source-action",
        "set RepositoryAccountId=111111111111",
    ),
    (
        14,
        without("HandOnArtifacts", T, PIPELINE, "pipeline"),
        f"may not hand on what is in {BUCKET}",
        "make deploy ENV=local-test",
    ),
    (14, without("UseKey", T, PIPELINE, "pipeline"), "may not use arn:aws:kms", "make deploy ENV=local-test"),
    (
        14,
        key_closed(f"{T}:role/{PIPELINE}"),
        f"does not let arn:aws:iam::222222222222:role/{PIPELINE} in",
        "make deploy ENV=local-test",
    ),
]
HOPS = 14


def test_a_whole_way_holds(way):
    code, said = run(way, "doctor.py", "local-test")
    assert (code, said.count(" holds ")) == (0, HOPS), said


def test_the_deploy_role_may_see_the_whole_way(as_deployer):
    code, said = run(as_deployer, "doctor.py", "local-test")
    assert (code, said.count(" holds ")) == (0, HOPS), said


def test_each_hop_is_broken_once():
    assert {number for number, *_ in LINKS} == set(range(1, HOPS + 1))


@pytest.mark.parametrize(
    ("number", "broken", "why", "mend"), LINKS, ids=[f"{number}-{why}" for number, _, why, _ in LINKS]
)
def test_the_first_broken_link_is_named(way, number, broken, why, mend):
    with contextlib.ExitStack() as undone:
        undone.callback(broken(way))
        code, said = run(way, "doctor.py", "local-test")
    assert (code, said.count(" holds ")) == (1, number - 1), said
    assert f"{number:>2}. BROKEN" in said
    assert why in said
    assert mend in said.partition("Mend:")[2], said


def test_a_stack_that_is_not_there_is_said(way):
    write_config(way, repository=R, test=T, production="333333333333")
    try:
        code, said = run(way, "doctor.py", "local-production")
    finally:
        write_config(way, repository=R, test=T)
    assert (code, "has no stack sekisho" in said, "make deploy ENV=local-production" in said) == (1, True, True), said


NEGATIONS = [
    ({"NotAction": "iam:*", "Resource": "*"}, "a statement with NotAction: read this policy yourself"),
    ({"Action": "*", "NotResource": "arn:aws:s3:::*"}, "a statement with NotResource: read this policy yourself"),
    (
        {"Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
        "a condition by IpAddress: read this policy yourself",
    ),
]


@pytest.mark.parametrize(("statement", "said_of_it"), NEGATIONS, ids=["NotAction", "NotResource", "IpAddress"])
def test_a_policy_that_it_cannot_judge_is_said_and_the_walk_goes_on(way, statement, said_of_it):
    iam = way.client(R, "iam")
    iam.put_role_policy(
        RoleName=RELAY,
        PolicyName="guardrail",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", **statement}}),
    )
    try:
        code, said = run(way, "doctor.py", "local-test")
    finally:
        iam.delete_role_policy(RoleName=RELAY, PolicyName="guardrail")
    assert (code, said.count(" holds "), said.count(" UNCLEAR ")) == (1, HOPS - 2, 2), said
    assert "Can't tell whether arn:aws:iam::111111111111:role/sekisho-event-relay" in said
    assert said_of_it in said and "Traceback" not in said


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "boundary"])
def test_a_policy_that_is_closed_to_the_deploy_role_is_said(way, as_deployer, attached):
    iam = way.client(R, "iam")
    arn, away = managed(way, R, {"Effect": "Allow", "Action": "*", "Resource": "*"})
    if attached:
        iam.attach_role_policy(RoleName=RELAY, PolicyArn=arn)
    else:
        iam.put_role_permissions_boundary(RoleName=RELAY, PermissionsBoundary=arn)
    try:
        code, said = run(as_deployer, "doctor.py", "local-test")
    finally:
        iam.detach_role_policy(RoleName=RELAY, PolicyArn=arn) if attached else iam.delete_role_permissions_boundary(
            RoleName=RELAY
        )
        away()
    assert (code, said.count(" holds "), said.count(" UNCLEAR ")) == (1, HOPS - 2, 2), said
    assert f"{arn} of role {RELAY} is closed to you (AccessDenied): read this policy yourself" in said


def test_a_layer_that_is_closed_to_the_profile_is_said(way, as_deployer):
    iam, role, policy = way.client(R, "iam"), f"sekisho-deploy-{REGION}", "emulator"
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    less = {**document, "Statement": [one for one in document["Statement"] if one["Action"] != "lambda:ListLayers"]}
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(less))
    try:
        code, said = run(as_deployer, "doctor.py", "local-test")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    assert (code, said.count(" holds "), said.count(" UNCLEAR ")) == (1, HOPS - 1, 1), said
    assert f"Can't tell whether account {R} has the same routes" in said


def test_the_artifact_store_of_the_pipelines_region_counts(scripts):
    here, there = {"location": "here"}, {"location": "there"}
    store = scripts("doctor").artifact_store
    assert store({"artifactStore": here}, REGION) == here
    assert store({"artifactStores": {"eu-west-1": there, REGION: here}}, REGION) == here
    assert store({"artifactStores": {"eu-west-1": there}}, REGION) == {}


@pytest.mark.parametrize(
    ("glob", "name", "matched"),
    [
        ("main", "main", True),
        ("main", "main2", False),
        ("release/*", "release/1", True),
        ("release/*", "release/1/2", False),
        ("team/**", "team/a/b", True),
        ("shop-*", "shop", False),
        ("v?", "v1", True),
        ("v?", "v/", False),
        ("a.c", "abc", False),
    ],
)
def test_globs_match_as_those_of_the_functions(scripts, glob, name, matched):
    assert scripts("routes").matches(glob, name) is matched


def test_a_glob_that_chooses_is_left_to_the_reader(scripts):
    with pytest.raises(scripts("policy").Unclear, match="see yourself whether it matches main"):
        scripts("routes").matches("{main,next}", "main")


def test_what_cannot_be_judged_counts_only_where_the_answer_hangs_on_it(scripts):
    policy = scripts("policy")
    allow, deny = ({"Effect": effect, "Action": "a:*", "Resource": "*"} for effect in ("Allow", "Deny"))
    unclear_allow, unclear_deny = (
        {"Effect": effect, "NotAction": "b:*", "Resource": "*"} for effect in ("Allow", "Deny")
    )
    ask = lambda *statements: policy.allows({"Statement": list(statements)}, "a:Do", "it", {})
    assert ask(allow, unclear_allow) is True
    assert ask(unclear_deny) is False
    assert ask(unclear_allow, allow, deny) is False
    for statements in ((unclear_allow,), (allow, unclear_deny)):
        with pytest.raises(policy.Unclear):
            ask(*statements)


def test_who_may_prepare_is_said_to_who_may_not(as_deployer, tmp_path):
    text = (ROOT / "samconfig.toml").read_text()
    head, found, tail = text.partition("[local-test.deploy.parameters]")
    assert found
    other = tmp_path / "samconfig.toml"
    other.write_text(
        head + found + tail.replace("parameter_overrides = [", 'parameter_overrides = [\n  "GrantsAccess=true",', 1)
    )
    code, said = run(as_deployer, "prepare.py", "local-test", "--user", "somebody", SAMCONFIG=str(other))
    assert (code, "Nothing was prepared." in said) == (1, True), said
    assert "make prepare USER=somebody ENV=local-test PROFILE=" in said


@pytest.fixture
def built_for(tmp_path):
    """A machine whose Rust has the libraries of no target, and which can build nothing."""
    for name, text in (("rustc", "echo /nonexistent"), ("cargo", "echo it builds")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_a_missing_rust_target_is_said_before_anything_is_built(way, built_for):
    code, said = run(way, "deploy.py", "local-test", **built_for)
    assert (code, "it builds" in said) == (1, False), said
    assert "rustup target add aarch64-unknown-linux-gnu" in said


@pytest.mark.parametrize("script", ["deploy.py", "doctor.py"])
def test_credentials_of_another_account_are_refused(way, script):
    write_config(way, repository=R, test="333333333333")
    try:
        code, said = run(way, script, "local-test")
    finally:
        write_config(way, repository=R, test=T)
    assert code == 1
    assert "Profile test leads to account 333333333333" in said
    assert "environment local-test is account 222222222222" in said


def test_an_unknown_environment_is_refused(way):
    code, said = run(way, "deploy.py", "staging")
    assert (code, "no environment 'staging'" in said, "production" in said) == (1, True, True)


def test_a_missing_profile_is_said(way):
    code, said = run(way, "deploy.py", "local-production")
    assert (code, "Profile production of environment local-production gives no credentials" in said) == (1, True), said


@pytest.mark.parametrize(("script", "more"), [("redrive.py", []), ("prepare.py", ["--user", "prd-user"])])
def test_credentials_of_ones_own_choice_are_checked_like_the_environments(way, script, more):
    code, said = run(way, script, "test", "--profile", "repository", *more)
    assert code == 1
    assert f"Profile repository leads to account {R}" in said


def test_what_is_next_is_said_for_the_account_that_does_it(scripts):
    deploy, environment = scripts("deploy"), scripts("environment")
    following = {
        name: list(deploy.following(environment.environment(name))) for name in ("repository", "test", "production")
    }
    assert [step.split(":")[0] for step in following["repository"]] == ["account 222222222222", "account 333333333333"]
    assert "make deploy ENV=repository" in following["test"][0]
    assert "make redrive ENV=repository" in following["test"][1]
    assert "make doctor ENV=test" in following["test"][2]
    assert [step for step in following["test"] if "make prepare" in step] == []
    assert len([step for step in following["production"] if "make prepare USER=… ENV=production" in step]) == 1
