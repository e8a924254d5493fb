"""`make doctor` names each broken link and its fix, and reports each link that it can't judge."""

import contextlib
from typing import NamedTuple

import pytest

from tests.local_cloud.accounts import document
from tests.tools.faults import (
    BUCKET,
    OTHER_ACCOUNT,
    PIPELINE,
    RELAY,
    SOURCE,
    STARTER,
    Fault,
    R,
    T,
    bucket_admits_another_account,
    build_with_key,
    bus_admits_another_account,
    denied_by_managed_policy,
    key_admits_another_account,
    key_disabled,
    limited_by_boundary,
    managed_policy,
    never_runs,
    other_config,
    permission_missing,
    pipeline_deleted,
    pipeline_with,
    report_bus_admits_another_account,
    repository_deleted,
    repository_with_key,
    role_created,
    rule_disabled,
    rule_pattern,
    rule_starts_pipeline,
    source_role_trusts_another_account,
    source_with,
    starter_accepts_another_account,
    trusts_another_service,
    with_layers,
    without_statement,
)
from tests.tools.runner import run, write_config
from tools.layout import REGION
from tools.operations.hops import HOPS

DEPLOY_REPOSITORY, DEPLOY_TEST = "make deploy ENV=repository", "make deploy ENV=test"
NAME_PIPELINES, NAME_REPOSITORIES = f"add {T} to PipelineAccountIds", f"set RepositoryAccountId={R}"
ROUTE = f"""[[route]]
repository = "more"
tags = ["v*"]
[[route.target]]
account = "{T}"
region = "{REGION}"
pipeline = "shop"
action = "Source"
"""
TRIGGER = {
    "providerType": "CodeStarSourceConnection",
    "gitConfiguration": {"sourceActionName": "Source", "push": [{"branches": {"includes": ["main"]}}]},
}
CHANGE, RELAYED = "sekisho-repository-change", "sekisho-source-change"
FOLLOW_UP, REPORTS, RINGS = "sekisho-follow-up", "sekisho-order-report", "sekisho-alarm-state"


class Link(NamedTuple):
    """A broken link: the number of its hop, its fault, and parts of the reported problem and fix."""

    hop: int
    fault: Fault
    problem: str
    fix: str


LINKS = [
    Link(
        1,
        other_config("sekisho-event-relay", R, lambda text: text.replace('"release/*"', '"next"')),
        f"account {R} has no route of shop (branches main, release/*",
        DEPLOY_REPOSITORY,
    ),
    Link(
        1,
        other_config("sekisho-event-relay", R, lambda text: ROUTE + text),
        f"account {R} has a route of more (tags v*)",
        DEPLOY_REPOSITORY,
    ),
    Link(
        1,
        other_config("sekisho-pipeline-starter", T, lambda text: text.replace(T, OTHER_ACCOUNT)),
        f"account {T} has no route of shop",
        DEPLOY_TEST,
    ),
    Link(1, with_layers("sekisho-pipeline-starter", T, []), "has no layer sekisho-config", DEPLOY_TEST),
    Link(2, rule_disabled(R, CHANGE), f"rule {CHANGE} of account {R} is DISABLED", "aws events enable-rule"),
    Link(2, permission_missing, "does not let rule sekisho-reconcile invoke it", DEPLOY_REPOSITORY),
    Link(2, rule_pattern(R, CHANGE, "aws.codecommit", "aws.codebuild"), "looks for", DEPLOY_REPOSITORY),
    Link(2, rule_pattern(R, CHANGE, "Repository State", "Comment State"), "looks for", DEPLOY_REPOSITORY),
    Link(
        3,
        never_runs(R, "sekisho-event-relay"),
        "its reserved concurrency is 0",
        "delete-function-concurrency --function-name sekisho-event-relay",
    ),
    Link(3, trusts_another_service(R, RELAY), "does not trust lambda.amazonaws.com", DEPLOY_REPOSITORY),
    Link(3, without_statement("Ledger", R, RELAY, "event-relay"), "may not keep the ledger", DEPLOY_REPOSITORY),
    Link(3, without_statement("ReadRepositories", R, RELAY, "event-relay"), "may not read shop", DEPLOY_REPOSITORY),
    Link(
        3,
        denied_by_managed_policy(R, RELAY, "codecommit:GetBranch"),
        "may not read shop (codecommit:GetBranch)",
        DEPLOY_REPOSITORY,
    ),
    Link(4, without_statement("Relay", R, RELAY, "event-relay"), "may not put events on", NAME_PIPELINES),
    Link(4, limited_by_boundary(R, RELAY, ["dynamodb:*", "codecommit:*"]), "may not put events on", NAME_PIPELINES),
    Link(
        5,
        bus_admits_another_account,
        f"does not let arn:aws:iam::{R}:role/sekisho-event-relay",
        NAME_REPOSITORIES,
    ),
    Link(
        6,
        rule_disabled(T, RELAYED, "sekisho"),
        f"rule {RELAYED} of account {T} is DISABLED",
        "--event-bus-name sekisho",
    ),
    Link(6, rule_pattern(T, RELAYED, "sekisho.relay", "sekisho.other", "sekisho"), "looks for", DEPLOY_TEST),
    Link(6, rule_pattern(T, RELAYED, "Source Change", "Source", "sekisho"), "looks for", DEPLOY_TEST),
    Link(6, starter_accepts_another_account, "accepts events from another account", NAME_REPOSITORIES),
    Link(
        7,
        never_runs(T, "sekisho-pipeline-starter"),
        "its reserved concurrency is 0",
        "delete-function-concurrency --function-name sekisho-pipeline-starter",
    ),
    Link(7, trusts_another_service(T, STARTER), "does not trust lambda.amazonaws.com", DEPLOY_TEST),
    Link(7, without_statement("Ledger", T, STARTER, "pipeline-starter"), "may not keep the ledger", DEPLOY_TEST),
    Link(7, without_statement("Start", T, STARTER, "pipeline-starter"), "may not start shop", DEPLOY_TEST),
    Link(8, pipeline_deleted, "has no pipeline shop", "ManagesPipeline=true"),
    Link(
        8,
        source_with(lambda source: source["configuration"].update(RepositoryName="other")),
        "takes repository other, and the route is of shop",
        "correct the route",
    ),
    Link(
        8,
        source_with(lambda source: source["configuration"].update(BranchName="release/1/2")),
        "takes branch release/1/2",
        "update-pipeline",
    ),
    Link(
        8,
        source_with(lambda source: source.update(region="eu-west-1")),
        "takes its source in eu-west-1",
        "update-pipeline",
    ),
    Link(
        9,
        source_with(lambda source: source["configuration"].update(PollForSourceChanges="true")),
        "polls and would run twice",
        "update-pipeline",
    ),
    Link(
        9,
        pipeline_with(lambda pipeline: pipeline.update(triggers=[TRIGGER])),
        "has a trigger of its own",
        "update-pipeline",
    ),
    Link(
        9,
        pipeline_with(lambda pipeline: pipeline["artifactStore"].update(location="another-bucket")),
        "keeps artifacts in another-bucket",
        "update-pipeline",
    ),
    Link(
        9,
        pipeline_with(lambda pipeline: pipeline["artifactStore"]["encryptionKey"].update(id="alias/sekisho-artifacts")),
        "full ARN",
        "update-pipeline",
    ),
    Link(
        8,
        source_with(lambda source: source["configuration"].update(OutputArtifactFormat="CODEBUILD_CLONE_REF")),
        "hands on a full clone (OutputArtifactFormat=CODEBUILD_CLONE_REF)",
        "CODE_ZIP",
    ),
    Link(
        9,
        pipeline_with(lambda pipeline: pipeline.update(pipelineType="V1")),
        "pipeline shop is of type V1 and takes no pinned commit",
        "make upgrade-pipeline ENV=test PIPELINE=shop shows the change to V2",
    ),
    Link(
        9,
        pipeline_with(lambda pipeline: pipeline.update(executionMode="PARALLEL")),
        "pipeline shop runs in mode PARALLEL",
        "executionMode to QUEUED or SUPERSEDED",
    ),
    Link(
        9,
        rule_starts_pipeline("default"),
        "rule codepipeline-shop-main (bus default) starts pipeline shop as well",
        "aws events disable-rule --name codepipeline-shop-main --event-bus-name default",
    ),
    Link(
        9,
        rule_starts_pipeline("others"),
        "rule codepipeline-shop-main (bus others) starts pipeline shop as well",
        "aws events disable-rule --name codepipeline-shop-main --event-bus-name others",
    ),
    Link(9, source_with(lambda source: source.pop("roleArn")), f"takes None, not arn:aws:iam::{R}", "update-pipeline"),
    Link(10, trusts_another_service(T, PIPELINE), "does not trust codepipeline.amazonaws.com", DEPLOY_TEST),
    Link(10, without_statement("TakeSource", T, PIPELINE, "pipeline"), "may not take", NAME_REPOSITORIES),
    Link(
        10,
        source_role_trusts_another_account,
        f"does not let arn:aws:iam::{T}:role/sekisho-pipeline",
        NAME_PIPELINES,
    ),
    Link(11, repository_deleted, "has no repository shop", "create it there"),
    Link(
        11,
        without_statement("ReadRepositories", R, SOURCE, "source-action"),
        "may not read shop",
        DEPLOY_REPOSITORY,
    ),
    Link(
        11,
        repository_with_key(allows=False),
        f"sekisho-event-relay-{REGION} may not use key arn:aws:kms:{REGION}:{R}:key/",
        "update-repository-encryption-key --repository-name shop",
    ),
    Link(
        11,
        repository_with_key(allows=True),
        f"of repository shop does not let arn:aws:iam::{R}:role/sekisho-event-relay-{REGION} in (kms:Decrypt)",
        "update-repository-encryption-key --repository-name shop",
    ),
    Link(12, without_statement("PutSource", R, SOURCE, "source-action"), "may not write to", NAME_PIPELINES),
    Link(12, bucket_admits_another_account, f"bucket {BUCKET} does not let", NAME_REPOSITORIES),
    Link(13, key_disabled, "is Disabled", "aws kms enable-key"),
    Link(
        13,
        without_statement("EncryptSource", R, SOURCE, "source-action"),
        "(kms:GenerateDataKey)",
        DEPLOY_REPOSITORY,
    ),
    Link(
        13,
        key_admits_another_account(R),
        f"does not let arn:aws:iam::{R}:role/sekisho-source-action",
        NAME_REPOSITORIES,
    ),
    Link(
        14,
        without_statement("HandOnArtifacts", T, PIPELINE, "pipeline"),
        f"may not hand on what is in {BUCKET}",
        DEPLOY_TEST,
    ),
    Link(14, without_statement("UseKey", T, PIPELINE, "pipeline"), "may not use arn:aws:kms", DEPLOY_TEST),
    Link(
        14,
        key_admits_another_account(f"{T}:role/{PIPELINE}"),
        f"does not let arn:aws:iam::{T}:role/{PIPELINE} in",
        DEPLOY_TEST,
    ),
    Link(15, build_with_key(f"arn:aws:kms:{REGION}:{T}:alias/aws/s3"), "alias/aws/s3, not under", "update-project"),
    Link(16, rule_disabled(T, FOLLOW_UP), f"rule {FOLLOW_UP} of account {T} is DISABLED", "aws events enable-rule"),
    Link(16, rule_pattern(T, "sekisho-pipeline-end", '"RESUMED"', '"STARTED"'), "looks for", DEPLOY_TEST),
    Link(16, without_statement("Report", T, STARTER, "pipeline-starter"), "may not put reports on", NAME_REPOSITORIES),
    Link(
        17,
        report_bus_admits_another_account,
        f"event-bus/sekisho does not let arn:aws:iam::{T}:role/sekisho-pipeline-starter",
        NAME_PIPELINES,
    ),
    Link(
        17,
        rule_disabled(R, REPORTS, "sekisho"),
        f"rule {REPORTS} of account {R} is DISABLED",
        "--event-bus-name sekisho",
    ),
    Link(17, rule_pattern(R, REPORTS, "sekisho.starter", "sekisho.other", "sekisho"), "looks for", DEPLOY_REPOSITORY),
    *[
        Link(
            18, role_created(account, path, name), f"admits arn:aws:iam::{account}:role{path}{name}", "iam delete-role"
        )
        for account, path, name in (
            (R, "/sekisho-event-relay-x/", "anything"),
            (R, "/", "sekisho-event-relay-other"),
            (R, "/sekisho-source-action-x/", "anything"),
            (T, "/sekisho-pipeline-ap-x/", "y-1"),
            (T, "/sekisho-pipeline-starter-x/", "anything"),
        )
    ],
    Link(19, rule_disabled(T, RINGS), f"rule {RINGS} of account {T} is DISABLED", "aws events enable-rule"),
    Link(19, rule_pattern(T, RINGS, "ALARM", "OK"), "looks for", DEPLOY_TEST),
    Link(19, without_statement("ReadAlarms", T, STARTER, "pipeline-starter"), "may not read the alarms", DEPLOY_TEST),
]


def test_each_hop_of_a_whole_path_holds(config):
    code, output = run(config, "doctor", "test")
    assert (code, output.count(" holds ")) == (0, len(HOPS)), output


def test_the_deploy_role_may_read_the_whole_path(config_of_deployer):
    code, output = run(config_of_deployer, "doctor", "test")
    assert (code, output.count(" holds ")) == (0, len(HOPS)), output


def test_each_hop_has_a_fault():
    # tests/tools/test_doctor_images.py and tests/tools/test_doctor_pulls.py have the faults of the last two hops.
    assert {link.hop for link in LINKS} == set(range(1, len(HOPS) - 1))
    assert len(HOPS) == 21


@pytest.mark.parametrize("link", LINKS, ids=[f"{link.hop}-{link.problem}" for link in LINKS])
def test_the_first_broken_link_is_named(cloud, config, link):
    with contextlib.ExitStack() as stack:
        stack.callback(link.fault(cloud))
        code, output = run(config, "doctor", "test")
    assert (code, output.count(" holds ")) == (1, link.hop - 1), output
    assert f"{link.hop:>2}. BROKEN" in output
    assert link.problem in output
    assert link.fix in output.partition("Fix:")[2], output


def test_a_missing_stack_is_reported(cloud, config):
    write_config(cloud, config, repository=R, test=T, production="333333333333")
    code, output = run(config, "doctor", "local-production")
    assert code == 1, output
    assert "has no stack sekisho" in output
    assert "make deploy ENV=local-production" in output


UNKNOWN_ELEMENTS: dict[str, dict[str, object]] = {
    "a statement with NotAction": {"NotAction": "iam:*", "Resource": "*"},
    "a condition by IpAddress": {
        "Action": "*",
        "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    },
}


@pytest.mark.parametrize("reason", UNKNOWN_ELEMENTS)
def test_a_policy_that_cannot_be_judged_is_reported_and_the_check_continues(cloud, config, reason):
    iam = cloud.client(R, "iam")
    guardrail = document([{"Effect": "Deny", **UNKNOWN_ELEMENTS[reason]}])
    iam.put_role_policy(RoleName=RELAY, PolicyName="guardrail", PolicyDocument=guardrail)
    try:
        code, output = run(config, "doctor", "test")
    finally:
        iam.delete_role_policy(RoleName=RELAY, PolicyName="guardrail")
    assert (code, output.count(" holds "), output.count(" UNCLEAR ")) == (1, len(HOPS) - 2, 2), output
    assert f"Can't tell whether arn:aws:iam::{R}:role/sekisho-event-relay" in output
    assert f"{reason}: read this policy yourself" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "boundary"])
def test_a_policy_that_the_deploy_role_may_not_read_is_reported(cloud, config_of_deployer, attached):
    iam = cloud.client(R, "iam")
    arn, delete = managed_policy(cloud, R, {"Effect": "Allow", "Action": "*", "Resource": "*"})
    if attached:
        iam.attach_role_policy(RoleName=RELAY, PolicyArn=arn)
    else:
        iam.put_role_permissions_boundary(RoleName=RELAY, PermissionsBoundary=arn)
    try:
        code, output = run(config_of_deployer, "doctor", "test")
    finally:
        if attached:
            iam.detach_role_policy(RoleName=RELAY, PolicyArn=arn)
        else:
            iam.delete_role_permissions_boundary(RoleName=RELAY)
        delete()
    assert (code, output.count(" holds "), output.count(" UNCLEAR ")) == (1, len(HOPS) - 2, 2), output
    assert f"{arn} of role {RELAY} is closed to you (AccessDenied): read this policy yourself" in output


def test_a_layer_that_the_profile_may_not_read_is_reported(cloud, config_of_deployer):
    iam, role = cloud.client(R, "iam"), f"sekisho-deploy-{REGION}"
    denial = {"Effect": "Deny", "Action": "lambda:GetLayerVersion", "Resource": "*"}
    iam.put_role_policy(RoleName=role, PolicyName="closed", PolicyDocument=document([denial]))
    try:
        code, output = run(config_of_deployer, "doctor", "test")
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="closed")
    assert (code, output.count(" holds "), output.count(" UNCLEAR ")) == (1, len(HOPS) - 1, 1), output
    assert f"Can't tell whether account {R} has the same routes" in output


def test_roles_of_the_stack_in_another_region_are_no_other_roles(cloud, config):
    with contextlib.ExitStack() as stack:
        stack.callback(role_created(R, "/", "sekisho-event-relay-us-east-1")(cloud))
        # Because of its path, the ARN of this role matches no pattern in the policies.
        stack.callback(role_created(R, "/team/", "sekisho-event-relay-us-west-2")(cloud))
        code, output = run(config, "doctor", "test")
    assert (code, output.count(" holds ")) == (0, len(HOPS)), output


def test_a_disabled_rule_starts_no_pipeline(cloud, config):
    with contextlib.ExitStack() as stack:
        stack.callback(rule_starts_pipeline("default")(cloud))
        cloud.client(T, "events").disable_rule(Name="codepipeline-shop-main")
        code, output = run(config, "doctor", "test")
    assert (code, output.count(" holds ")) == (0, len(HOPS)), output


def test_a_rule_that_the_deploy_role_may_not_read_is_named(cloud, config_of_deployer):
    with contextlib.ExitStack() as stack:
        stack.callback(rule_starts_pipeline("default")(cloud))
        code, output = run(config_of_deployer, "doctor", "test")
    assert (code, output.count(" holds "), output.count(" UNCLEAR ")) == (1, len(HOPS) - 1, 1), output
    assert "Can't tell whether rule codepipeline-shop-main (bus default) starts pipeline shop as well" in output


@pytest.mark.parametrize("missing", ["iam:ListRoles", "events:ListRuleNamesByTarget"])
def test_an_older_deploy_role_leaves_the_new_questions_open(cloud, config_of_deployer, missing):
    with denied_to_deployer(cloud, missing):
        code, output = run(config_of_deployer, "doctor", "test")
    assert (code, output.count(" UNCLEAR "), output.count(" BROKEN ")) == (1, 1, 0), output
    assert f"not authorized to perform: {missing}" in output


@contextlib.contextmanager
def denied_to_deployer(cloud, action):
    """Denies the action to the role for deployment, in both accounts."""
    role = f"sekisho-deploy-{REGION}"
    policy = document([{"Effect": "Deny", "Action": action, "Resource": "*"}])
    for account in (R, T):
        cloud.client(account, "iam").put_role_policy(RoleName=role, PolicyName="older", PolicyDocument=policy)
    try:
        yield
    finally:
        for account in (R, T):
            cloud.client(account, "iam").delete_role_policy(RoleName=role, PolicyName="older")
