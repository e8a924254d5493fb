"""The checks of `make deploy` before it builds. Without one of these facts, the deployment fails late or is useless.

All facts are checked, and all problems are reported at once. If the credentials may not read a fact, the command
reports this, and the deployment is not blocked.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from samtranslator.yaml_helper import yaml_parse

from tools.failure import Failure
from tools.layout import BUS, ROOT, RUST_TARGETS
from tools.machine import has_rust_target
from tools.operations import stack_history
from tools.operations.account import Account
from tools.operations.deployment import Deployment, Problem, Unknown
from tools.operations.door_preflight import approvers_are_configured, doors_exist
from tools.operations.environment import SAMCONFIG, Environment
from tools.operations.free_names import names_are_free
from tools.operations.images import PULL, lets_functions_in, lets_in
from tools.operations.leftovers import found
from tools.operations.policy import Unclear, allows
from tools.operations.template import declared, value

# The API of Chatbot has endpoints in a few regions. Each endpoint answers for the whole account, so one is enough.
CHATBOT_REGION = "us-east-2"
BOOTSTRAP = ROOT / "bootstrap" / "deploy-role.yaml"
BOOTSTRAP_STACK = "sekisho-deploy"
# A new account may run only this many functions at a time, until AWS raises the limit.
LOW_CONCURRENCY = 10
# Lambda keeps so much of the quota for functions without a reservation.
UNRESERVED_CONCURRENCY = 100
ASK_FOR_MORE = "ask AWS for more: Service Quotas, AWS Lambda, Concurrent executions"
# A sweep and a follow-up of temp-access run beside the requests.
LEAST_RESERVED = 5

Found = Iterator[Problem]


# The checks from here on need only this machine and samconfig.toml.


def somebody_answers(deployment: Deployment) -> Found:
    """sam asks for a confirmation if confirm_changeset is set, so a person must be at the terminal."""
    target = deployment.target
    if target.asks and not sys.stdin.isatty():
        yield Problem(
            f"Environment {target.name} asks before it deploys (confirm_changeset), and nobody can answer here",
            f"run it in a terminal, or set confirm_changeset = false under [{target.name}.deploy.parameters] in "
            f"{SAMCONFIG.name}",
        )


def rust_builds_for_it(deployment: Deployment) -> Found:
    """Rust can build for an architecture only if the standard library for that target is installed."""
    target = deployment.target
    rust = RUST_TARGETS.get(target.architecture)
    if rust is None:
        yield Problem(
            f"Architecture={target.architecture} of environment {target.name} is not supported",
            f"use {' or '.join(RUST_TARGETS)}",
        )
    elif not has_rust_target(rust):
        yield Problem(
            f"Rust can't build for {rust} yet, which Architecture={target.architecture} needs "
            f"(arm64 if {SAMCONFIG.name} sets no Architecture)",
            f"rustup target add {rust}",
        )


def parameters_are_valid(deployment: Deployment) -> Found:
    """CloudFormation would refuse a wrong value only after the build, and sam silently ignores an unknown name."""
    where = f"{SAMCONFIG.name}, [{deployment.target.name}.deploy.parameters]: parameter_overrides"
    for name, given in deployment.target.parameters.items():
        rules = declared().get(name)
        if rules is None:
            yield Problem(
                f"{where}: {name} is no parameter of template.yaml, so sam would ignore it", "correct the name"
            )
            continue
        allowed = [str(one) for one in rules.get("AllowedValues", [given])]
        fits = re.search(rules.get("AllowedPattern", ""), given, re.ASCII) and len(given) <= rules.get(
            "MaxLength", 4096
        )
        if given not in allowed or not fits:
            rule = rules.get("ConstraintDescription") or f"must be one of {', '.join(allowed)}"
            yield Problem(f"{where}: {name}={given} is not allowed", f"{name} {rule}")


def partners_are_the_environments(deployment: Deployment) -> Found:
    """The pipeline account's parameters must name the account and the region of the repositories' environment."""
    target, repositories = deployment.target, deployment.repositories
    if not deployment.has("HostsPipelines"):
        return
    where = f"[{target.name}.deploy.parameters] of {SAMCONFIG.name}"
    account = value(target, "RepositoryAccountId") or target.account
    if account != repositories.account:
        yield Problem(
            f"The stack would take its source from account {account}, but the repositories of environment "
            f"{target.name} are in account {repositories.account} (environment {repositories.name})",
            f"set RepositoryAccountId={repositories.account} in {where}, or correct `repositories`",
        )
    region = value(target, "RepositoryRegion") or target.region
    if region != repositories.region:
        yield Problem(
            f"The stack would take its source from region {region}, but environment {repositories.name} is in "
            f"{repositories.region}",
            f"set RepositoryRegion={repositories.region} in {where}, or correct `repositories`",
        )


def own_pipelines_are_named(deployment: Deployment) -> Found:
    """If an account with both duties lists pipeline accounts, the list must contain the account, too.

    The source role trusts only the listed accounts, and event-relay sends only to their buses.
    """
    target = deployment.target
    named = value(target, "PipelineAccountIds")
    own = value(target, "RepositoryAccountId") in ("", target.account)
    if not (own and named and deployment.has("HostsRepositories") and deployment.has("HostsPipelines")):
        return
    if target.account not in named.split(","):
        managed = deployment.has("ManagesPipeline")
        consequence = (
            "CodePipeline would refuse the pipeline, and CloudFormation would roll the stack back"
            if managed
            else "its pipelines could not read its repositories"
        )
        yield Problem(
            f"PipelineAccountIds={named} of environment {target.name} lacks the environment's own account "
            f"{target.account}, which has repositories and pipelines. Without it, {consequence}",
            f"set PipelineAccountIds={named},{target.account} in [{target.name}.deploy.parameters] of {SAMCONFIG.name}",
            blocks=managed,
        )


# The checks from here on read the account.


def profile_leads_to_the_account(deployment: Deployment) -> Found:
    """The profile's credentials must be valid and belong to the environment's account."""
    try:
        deployment.client("sts")
    except Failure as failure:
        text, _, fix = str(failure).rstrip(".").rpartition(": ")
        yield Problem(text, fix)


def region_is_enabled(deployment: Deployment) -> Found:
    """A region that AWS opened after March 2019 must be enabled in each account."""
    region = deployment.target.region
    answer = deployment.client("account", "us-east-1").get_region_opt_status(RegionName=region)
    if answer["RegionOptStatus"] not in ("ENABLED", "ENABLED_BY_DEFAULT"):
        yield Problem(
            f"Region {region} is {answer['RegionOptStatus']} in account {deployment.target.account}",
            f"as an administrator: aws account enable-region --region-name {region}, and wait until it is ENABLED",
        )


def deploy_role_is_current(deployment: Deployment) -> Found:
    """A new release may need more permissions than the role of an older bootstrap template has."""
    target = deployment.target
    arn = deployment.client("sts").get_caller_identity()["Arn"]
    if f":assumed-role/sekisho-deploy-{target.region}/" not in arn:
        return
    wanted = int(yaml_parse(BOOTSTRAP.read_text())["Outputs"]["Version"]["Value"])
    try:
        stack = stack_history.present(deployment.client("cloudformation"), BOOTSTRAP_STACK)
    except ClientError as error:
        raise Unknown(
            f"{error}. Every role since version 2 of {BOOTSTRAP.relative_to(ROOT)} may read this; if the deployment "
            "fails for lack of permissions, have an administrator deploy that template again"
        ) from None
    if stack is None:
        raise Unknown(f"the region has no stack {BOOTSTRAP_STACK}")
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
    version = int(outputs.get("Version", "1"))
    if version < wanted:
        yield Problem(
            f"The role sekisho-deploy-{target.region} of account {target.account} has version {version}, and this "
            f"release needs version {wanted}",
            f"as an administrator, deploy {BOOTSTRAP.relative_to(ROOT)} again with the same parameters",
        )


def stack_accepts_a_deployment(deployment: Deployment) -> Found:
    """CloudFormation accepts no change set for a stack whose first deployment failed, or that is being changed."""
    if deployment.stack is None:
        return
    target, status = deployment.target, deployment.stack["StackStatus"]
    text = f"Stack {target.stack} of account {target.account} is {status}"
    if status in stack_history.FAILED_FIRST:
        yield Problem(
            f"{text}: its first deployment failed",
            f"as an administrator: make clean-start ENV={target.name} PROFILE=…",
        )
    elif status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        yield Problem(text, "wait until that has ended")
    elif status == "UPDATE_ROLLBACK_FAILED":
        fix = f"aws cloudformation continue-update-rollback --stack-name {target.stack} --region {target.region}"
        yield Problem(text, f"as an administrator: {fix}")
    elif status == "DELETE_FAILED":
        yield Problem(text, "as an administrator, finish the deletion: docs/deploy.md, Take it down")


def source_role_trusts_the_pipeline(deployment: Deployment) -> Found:
    """CodePipeline refuses a managed pipeline whose role may not assume the source role of the repository account."""
    target, repositories = deployment.target, deployment.repositories
    own = target.name == repositories.name and deployment.has("HostsRepositories")
    if own or not deployment.has("HostsPipelines"):
        return
    managed = deployment.has("ManagesPipeline")
    name = f"sekisho-source-action-{target.region if managed else repositories.region}"
    iam = deployment.client_of_repositories("iam")
    role = found(iam.get_role, RoleName=name)
    first = f"make deploy ENV={repositories.name}, and after that {deployment.retry}"
    consequence = (
        "CodePipeline would refuse the pipeline, and CloudFormation would roll the stack back"
        if managed
        else "its pipelines could not read the repositories"
    )
    if role is None:
        text = f"Account {repositories.account} has no role {name} yet. Without it, {consequence}"
        yield Problem(text, f"deploy the repository account first: {first}", blocks=managed)
        return
    pipeline = f"arn:{deployment.partition}:iam::{target.account}:role/sekisho-pipeline-{target.region}"
    trust = role["Role"]["AssumeRolePolicyDocument"]
    if not allows(trust, "sts:AssumeRole", "*", {"aws:PrincipalArn": pipeline}, target.account):
        named = target.account in value(repositories, "PipelineAccountIds").split(",")
        add = f"add {target.account} to PipelineAccountIds of {repositories.name} in {SAMCONFIG.name}, then "
        text = (
            f"Role {name} of account {repositories.account} does not trust {pipeline} yet. Without that, {consequence}"
        )
        yield Problem(text, f"{'' if named else add}{first}", blocks=managed)


def report_bus_admits_the_starter(deployment: Deployment) -> Found:
    """Without the reports of an account, event-relay repeats its orders, and nobody sees what runs there."""
    target, repositories = deployment.target, deployment.repositories
    own = target.name == repositories.name and deployment.has("HostsRepositories")
    if own or not deployment.has("HostsPipelines"):
        return
    bus = found(deployment.client_of_repositories("events").describe_event_bus, Name=BUS)
    starter = f"arn:{deployment.partition}:iam::{target.account}:role/sekisho-pipeline-starter-{target.region}"
    facts = {"aws:PrincipalArn": starter, "events:source": "sekisho.starter", "events:detail-type": "Order Report"}
    policy = json.loads((bus or {}).get("Policy") or "{}")
    arn = f"arn:{deployment.partition}:events:{repositories.region}:{repositories.account}:event-bus/{BUS}"
    if not allows(policy, "events:PutEvents", arn, facts, target.account):
        problem = "does not admit the reports of this account yet" if bus else "does not exist yet"
        yield Problem(
            f"Bus {BUS} of account {repositories.account} {problem}. Without the reports, nobody sees what runs in "
            f"account {target.account}",
            f"make deploy ENV={repositories.name}, with {target.account} in its PipelineAccountIds",
            blocks=False,
        )


def image_is_shared(deployment: Deployment) -> Found:
    """Without the repository of images, or the permission to pull from it, the managed pipeline deploys no image."""
    target, repositories = deployment.target, deployment.repositories
    name = value(target, "ImageRepositoryName")
    if not name or not deployment.has("ManagesPipeline") or target.name == repositories.name:
        return
    ecr, where = deployment.client_of_repositories("ecr"), f"account {repositories.account} (ENV={repositories.name})"
    fix = (
        f"in {SAMCONFIG.name}, set ImageRepositoryName={name} and ImageReaderOrgPaths of ENV={repositories.name} and "
        "deploy it, or deploy bootstrap/image-repository.yaml in that account"
    )
    if found(ecr.describe_repositories, repositoryNames=[name]) is None:
        yield Problem(f"There is no repository of images {name} in {where}", fix, blocks=False)
        return
    policy = json.loads((found(ecr.get_repository_policy, repositoryName=name) or {}).get("policyText", "{}"))
    place = Account(repositories).organization_path(target.account)
    arn = f"arn:{deployment.partition}:ecr:{repositories.region}:{repositories.account}:repository/{name}"
    context = {"aws:PrincipalOrgPaths": place} if place else {}
    text = f"The repository of images {name} in {where} does not let account {target.account} pull"
    if not all(lets_in(policy, action, arn, context, target.account) for action in PULL):
        yield Problem(text, fix, blocks=False)
    elif not lets_functions_in(policy, arn, place, target.account, value(target, "PipelineName")):
        text = f"The repository of images {name} in {where} does not let Lambda pull for account {target.account}"
        yield Problem(f"{text}. Only functions from an image need that", fix, blocks=False)


def channel_is_free(deployment: Deployment) -> Found:
    """A Slack channel can be configured only once in an account, even in different regions."""
    channel, target = value(deployment.target, "SlackChannelId"), deployment.target
    if not channel:
        return
    own = f"/sekisho-{target.account}-{target.region}"
    pages = (
        deployment.client("chatbot", CHATBOT_REGION).get_paginator("describe_slack_channel_configurations").paginate()
    )
    for one in (one for page in pages for one in page["SlackChannelConfigurations"]):
        if one["SlackChannelId"] == channel and not one["ChatConfigurationArn"].endswith(own):
            name = one["ChatConfigurationArn"].rpartition("/")[2]
            yield Problem(
                f"Slack channel {channel} is already configured in account {target.account}, as {name}. A channel can "
                "be configured only once in an account",
                f"name another channel in SlackChannelId, or delete the configuration {name}",
            )


def workspace_is_authorized(deployment: Deployment) -> Found:
    """CloudFormation can't authorize a Slack workspace; a person does that once in the console."""
    workspace, target = value(deployment.target, "SlackWorkspaceId"), deployment.target
    if not workspace:
        return
    pages = deployment.client("chatbot", CHATBOT_REGION).get_paginator("describe_slack_workspaces").paginate()
    workspaces = {one["SlackTeamId"]: one.get("State", "ENABLED") for page in pages for one in page["SlackWorkspaces"]}
    if workspaces.get(workspace) != "ENABLED":
        yield Problem(
            f"Account {target.account} is not authorized for Slack workspace {workspace}",
            "in the console of Amazon Q Developer in chat applications, configure Slack and allow the workspace",
        )


def quotas_suffice(deployment: Deployment) -> Found:
    """New accounts start with small quotas, which stop the functions and builds, but not the deployment."""
    target = deployment.target
    limit = deployment.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if limit <= LOW_CONCURRENCY:
        yield Problem(
            f"Account {target.account} may run {limit} functions at a time, which all its functions share",
            ASK_FOR_MORE,
            blocks=False,
        )
    sweeping = int(value(target, "SweepConcurrency"))
    if target.does("HostsPipelines") and sweeping * 2 > limit:
        yield Problem(
            f"SweepConcurrency={sweeping} is more than half of the {limit} functions that account {target.account} may "
            "run at a time, so a large sweep may keep the others from running",
            f"write at most {max(limit // 2, 2)}, or {ASK_FOR_MORE}",
            blocks=sweeping >= limit,
        )
    reserved = int(value(target, "AccessConcurrency"))
    if target.does("GrantsAccess") and 0 < reserved < LEAST_RESERVED:
        yield Problem(
            f"AccessConcurrency={reserved} is also the most that runs, so a sweep may keep people from revoking",
            f"write at least {LEAST_RESERVED}, or 0 to reserve nothing",
        )
    if target.does("GrantsAccess") and reserved and limit - reserved < UNRESERVED_CONCURRENCY:
        yield Problem(
            f"AccessConcurrency={reserved} leaves less than {UNRESERVED_CONCURRENCY} of the {limit} functions that "
            f"account {target.account} may run at a time, which Lambda does not allow",
            f"remove the parameter, or {ASK_FOR_MORE}",
        )


def builds_may_run(deployment: Deployment) -> Found:
    """The quota for concurrent builds may be 0 in a new account."""
    if not deployment.has("ManagesPipeline"):
        return
    target = deployment.target
    kind = "ARM" if target.architecture == "arm64" else "Linux"
    name = f"Concurrently running builds for {kind}/Small environment"
    pages = deployment.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="codebuild")
    quotas = {one["QuotaName"]: one["Value"] for page in pages for one in page["Quotas"]}
    if name not in quotas:
        raise Unknown(f"Service Quotas does not list {name!r}")
    if quotas[name] < 1:
        yield Problem(
            f"Account {target.account} may not run any build: the quota {name!r} of CodeBuild is 0",
            "ask AWS for more: Service Quotas, AWS CodeBuild",
            blocks=False,
        )


class Check(NamedTuple):
    """One fact: the statement that has to hold, and the function that looks for problems."""

    statement: str
    find: Callable[[Deployment], Found]


LOCAL = [
    Check("somebody can answer sam's question", somebody_answers),
    Check("Rust builds for the functions' architecture", rust_builds_for_it),
    Check("the parameters are valid", parameters_are_valid),
    Check("the parameters name the account and region of the repositories", partners_are_the_environments),
    Check("the pipeline accounts include the account itself", own_pipelines_are_named),
    Check("the group of approvers is configured", approvers_are_configured),
]
ACCOUNT = Check("the profile leads to the account", profile_leads_to_the_account)
REMOTE = [
    Check("the region is enabled", region_is_enabled),
    Check("the deploy role is current", deploy_role_is_current),
    Check("the stack accepts a deployment", stack_accepts_a_deployment),
    Check("the names of what the stack creates are free", names_are_free),
    Check("the source role of the repository account trusts the pipelines", source_role_trusts_the_pipeline),
    Check("the bus of the repository account admits the reports", report_bus_admits_the_starter),
    Check("the account may pull the image of its managed pipeline", image_is_shared),
    Check("the doors of temp-access exist and have their policies", doors_exist),
    Check("the Slack channel is not configured elsewhere in the account", channel_is_free),
    Check("the account is authorized for the Slack workspace", workspace_is_authorized),
    Check("the quota of Lambda suffices", quotas_suffice),
    Check("the quota of CodeBuild suffices", builds_may_run),
]


def preflight(target: Environment) -> None:
    """Checks all facts. Prints the problems that do not block the deployment, and fails with those that do."""
    deployment = Deployment(target)
    problems = [problem for check in LOCAL for problem in look(check, deployment)]
    no_access = look(ACCOUNT, deployment)
    problems += no_access
    if not no_access:
        problems += [problem for check in REMOTE for problem in look(check, deployment)]
    for problem in problems:
        if not problem.blocks:
            print(f"Note: {problem.text}. To do: {problem.fix}.", flush=True)
    blocking = [problem for problem in problems if problem.blocks]
    if not blocking:
        return
    lines = [f"{problem.text}.\n   Do this: {problem.fix}." for problem in blocking]
    if no_access:
        lines.append("The facts about the account could not be checked without its credentials.")
    if len(lines) == 1:
        raise Failure(lines[0])
    raise Failure(
        f"{len(blocking)} problem(s):\n" + "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    )


def look(check: Check, deployment: Deployment) -> list[Problem]:
    """The problems that a check finds. If the fact can't be checked, prints the reason and returns no problems."""
    try:
        return list(check.find(deployment))
    except (Unknown, Unclear, ClientError, BotoCoreError) as error:
        print(f"Could not be checked: {check.statement} ({error}).", flush=True)
        return []
