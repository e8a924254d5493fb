"""What operators run: `make deploy` refuses another account's credentials, `make doctor` names each broken link."""

import contextlib
import copy
import importlib
import json
import os
import subprocess
import sys
import types

import pytest
from template import deployed
from template.deployed import REGION, ROOT

R, T = "111111111111", "222222222222"
RELAY, SOURCE = f"sekisho-event-relay-{REGION}", f"sekisho-source-action-{REGION}"
BUCKET = f"sekisho-artifacts-{T}-{REGION}"


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    """Both accounts deployed, with repository and pipeline; and an AWS config with the profiles of samconfig.toml."""
    with deployed.cloud() as cloud:
        cloud.deploy(R, deployed.PARTNERS | {"HostsRepositories": "true"})
        cloud.deploy(T, deployed.PARTNERS | {"HostsPipelines": "true", "ManagesPipeline": "true"})
        cloud.client(R, "codecommit").create_repository(repositoryName="shop")
        cloud.config = tmp_path_factory.mktemp("aws") / "config"
        write_config(cloud, repository=R, test=T)
        yield cloud


def write_config(cloud, **accounts):
    cloud.config.write_text("".join(
        f"[profile {name}]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
        f"aws_access_key_id = {account}\naws_secret_access_key = root\n" for name, account in accounts.items()))


def run(cloud, script, environment, *more):
    # The machine's own credentials and settings must not show through.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run([sys.executable, ROOT / "scripts" / script, "--env", environment, *more], capture_output=True, text=True, check=False,
                          env=clean | {"AWS_CONFIG_FILE": str(cloud.config), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def as_deployer(way, tmp_path_factory):
    """The same accounts through the role of bootstrap/deploy-role.yaml, taken by a user of the repository account."""
    user = f"arn:aws:iam::{R}:user/me"
    for account in (R, T):
        cloudformation = way.client(account, "cloudformation")
        cloudformation.create_stack(
            StackName="sekisho-deploy", TemplateBody=(ROOT / "bootstrap" / "deploy-role.yaml").read_text(), Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": "DeployerAccountId", "ParameterValue": R}, {"ParameterKey": "DeployerArns", "ParameterValue": user}])
        cloudformation.get_waiter("stack_create_complete").wait(StackName="sekisho-deploy", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        # The emulator takes rules of the default bus, and a bus, for rule/default/…, and targets for the bus; AWS for rule/… and the bus.
        mistaken = [f"arn:aws:events:{REGION}:{account}:{one}" for one in ("rule/default/sekisho*", "event-bus/default")]
        more = {"Effect": "Allow", "Action": ["events:DescribeEventBus", "events:DescribeRule", "events:ListTargetsByRule"], "Resource": mistaken}
        way.client(account, "iam").put_role_policy(RoleName=f"sekisho-deploy-{REGION}", PolicyName="emulator",
                                                   PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [more]}))
    iam, roles = way.client(R, "iam"), {name: f"arn:aws:iam::{account}:role/sekisho-deploy-{REGION}" for name, account in (("repository", R), ("test", T))}
    iam.create_user(UserName="me")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": list(roles.values())}
    iam.put_user_policy(UserName="me", PolicyName="deploys", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    key = iam.create_access_key(UserName="me")["AccessKey"]
    config = tmp_path_factory.mktemp("deployer") / "config"
    common = f"region = {REGION}\nendpoint_url = {way.endpoint}\n"
    config.write_text(
        f"[profile me]\n{common}aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
        + "".join(f"[profile {name}]\n{common}role_arn = {role}\nsource_profile = me\n" for name, role in roles.items()))
    return types.SimpleNamespace(config=config)


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
    return lambda: function.add_permission(FunctionName="sekisho-event-relay", StatementId=one["Sid"], Action="lambda:InvokeFunction",
                                           Principal="events.amazonaws.com", SourceArn=rule)


def bus_closed(cloud):
    """As it happens: the stack deals with another account."""
    cloudformation = cloud.client(T, "cloudformation")
    given = deployed.PARTNERS | {"HostsPipelines": "true", "ManagesPipeline": "true"}

    def update(parameters):
        cloudformation.update_stack(
            StackName=deployed.STACK, UsePreviousTemplate=True, Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()])
        cloudformation.get_waiter("stack_update_complete").wait(StackName=deployed.STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    update(given | {"RepositoryAccountId": "444444444444"})
    return lambda: update(given)


def starter_believes_another(cloud):
    function = cloud.client(T, "lambda")
    variables = function.get_function_configuration(FunctionName="sekisho-pipeline-starter")["Environment"]["Variables"]
    put = lambda more: function.update_function_configuration(FunctionName="sekisho-pipeline-starter", Environment={"Variables": variables | more})
    put({"REPOSITORY_ACCOUNT_ID": "444444444444"})
    return lambda: put({})


def pipeline_gone(cloud):
    codepipeline = cloud.client(T, "codepipeline")
    pipeline = codepipeline.get_pipeline(name="shop")["pipeline"]
    codepipeline.delete_pipeline(name="shop")
    return lambda: codepipeline.create_pipeline(pipeline={key: value for key, value in pipeline.items() if key != "version"})


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


def key_closed(cloud):
    kms = cloud.client(T, "kms")
    key = kms.describe_key(KeyId="alias/sekisho-artifacts")["KeyMetadata"]["Arn"]
    policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    put = lambda text: kms.put_key_policy(KeyId=key, PolicyName="default", Policy=text)
    put(policy.replace(R, "444444444444"))
    return lambda: put(policy)


LINKS = [
    # number of the hop, how it is broken, what is said, what mends it
    (1, rule_off, "rule sekisho-repository-change of account 111111111111 is DISABLED", "aws events enable-rule"),
    (1, permission_gone, "does not let rule sekisho-reconcile invoke it", "make deploy ENV=local-repository"),
    (2, without("Relay", R, RELAY, "event-relay"), "may not put events on", "add 222222222222 to PipelineAccountIds"),
    (3, bus_closed, "does not let arn:aws:iam::111111111111:role/sekisho-event-relay", "set RepositoryAccountId=111111111111"),
    (4, starter_rule_off, "rule sekisho-source-change of account 222222222222 is DISABLED", "--event-bus-name sekisho"),
    (4, starter_believes_another, "pipeline-starter believes another account", "set RepositoryAccountId=111111111111"),
    (5, pipeline_gone, "has no pipeline shop", "ManagesPipeline=true"),
    (5, without("Start", T, f"sekisho-pipeline-starter-{REGION}", "pipeline-starter"), "may not start shop", "make deploy ENV=local-test"),
    (6, pipeline_with(lambda pipeline: source(pipeline)["configuration"].update(PollForSourceChanges="true")), "polls and would run twice", "update-pipeline"),
    (6, pipeline_with(lambda pipeline: pipeline["artifactStore"]["encryptionKey"].update(id="alias/sekisho-artifacts")), "full ARN", "update-pipeline"),
    (6, pipeline_with(lambda pipeline: source(pipeline).pop("roleArn")), "takes None, not arn:aws:iam::111111111111", "update-pipeline"),
    (7, without("TakeSource", T, f"sekisho-pipeline-{REGION}", "pipeline"), "may not take", "RepositoryAccountId=111111111111"),
    (7, trust_gone, "does not trust arn:aws:iam::222222222222", "add 222222222222 to PipelineAccountIds"),
    (8, repository_gone, "has no repository shop", "make it there"),
    (8, without("ReadRepositories", R, SOURCE, "source-action"), "may not read shop", "make deploy ENV=local-repository"),
    (9, without("PutSource", R, SOURCE, "source-action"), "may not write to", "add 222222222222 to PipelineAccountIds"),
    (9, bucket_closed, f"bucket {BUCKET} does not let", "set RepositoryAccountId=111111111111"),
    (10, key_off, "is Disabled", "aws kms enable-key"),
    (10, without("EncryptSource", R, SOURCE, "source-action"), "may not kms:GenerateDataKey", "make deploy ENV=local-repository"),
    (10, key_closed, "does not let arn:aws:iam::111111111111:role/sekisho-source-action", "set RepositoryAccountId=111111111111"),
]
HOPS = 10


def test_a_whole_way_holds(way):
    code, said = run(way, "doctor.py", "local-test")
    assert (code, said.count(" holds ")) == (0, HOPS), said


def test_the_deploy_role_may_see_the_whole_way(as_deployer):
    code, said = run(as_deployer, "doctor.py", "local-test")
    assert (code, said.count(" holds ")) == (0, HOPS), said


def test_each_hop_is_broken_once():
    assert {number for number, *_ in LINKS} == set(range(1, HOPS + 1))


@pytest.mark.parametrize(("number", "broken", "why", "mend"), LINKS, ids=[f"{number}-{why}" for number, _, why, _ in LINKS])
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


def test_what_is_next_is_said_for_the_account_that_does_it(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    deploy, environment = importlib.import_module("deploy"), importlib.import_module("environment")
    following = {name: list(deploy.following(environment.environment(name))) for name in ("repository", "test", "production")}
    assert [step.split(":")[0] for step in following["repository"]] == ["account 222222222222", "account 333333333333"]
    assert "make deploy ENV=repository" in following["test"][0]
    assert "make redrive ENV=repository" in following["test"][1]
    assert "make doctor ENV=test" in following["test"][2]
    assert [step for step in following["test"] if "make prepare" in step] == []
    assert len([step for step in following["production"] if "make prepare USER=… ENV=production" in step]) == 1
