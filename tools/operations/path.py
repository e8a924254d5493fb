"""The path of a change from the repository account to a pipeline account: its resources and their policies."""

import json
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

from tools.layout import CONFIG
from tools.operations.account import Account, Broken, Role, need
from tools.operations.policy import Context, Document, Unclear, allows
from tools.operations.routes import Route, routes_to

USE_LEDGER = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
USE_KEY = ["kms:GenerateDataKey", "kms:Decrypt"]


class DeliveryPath:
    """The path from the repository account to one pipeline account."""

    def __init__(self, repositories: Account, pipelines: Account) -> None:
        self.repositories, self.pipelines = repositories, pipelines
        # The questions about the current hop that could not be answered.
        self.unclear: list[str] = []
        # What could be better at the current hop, although it holds.
        self.advice: list[str] = []

    @property
    def relay(self) -> str:
        """The ARN of event-relay."""
        return self.repositories.output("EventRelayArn", "HostsRepositories")

    @property
    def relay_role(self) -> str:
        """The ARN of event-relay's role."""
        return self.repositories.output("EventRelayRoleArn", "HostsRepositories")

    @property
    def source_role(self) -> str:
        """The ARN of the role for source actions."""
        return self.repositories.output("SourceActionRoleArn", "HostsRepositories")

    @property
    def report_bus(self) -> str:
        """The ARN of the bus on which the pipeline accounts put their reports."""
        return self.repositories.output("ReportBusArn", "HostsRepositories")

    @property
    def starter(self) -> str:
        """The ARN of pipeline-starter."""
        return self.pipelines.output("PipelineStarterArn", "HostsPipelines")

    @property
    def starter_role(self) -> str:
        """The ARN of pipeline-starter's role."""
        return self.pipelines.output("PipelineStarterRoleArn", "HostsPipelines")

    @property
    def pipeline_role(self) -> str:
        """The ARN of the role for pipelines."""
        return self.pipelines.output("PipelineRoleArn", "HostsPipelines")

    @property
    def bucket(self) -> str:
        """The name of the artifact bucket."""
        return self.pipelines.output("ArtifactBucketName", "HostsPipelines")

    @property
    def key(self) -> str:
        """The ARN of the artifact key."""
        return self.pipelines.output("ArtifactKeyArn", "HostsPipelines")

    @property
    def name_pipelines(self) -> str:
        """The fix if the parameters of the repository account do not name the pipeline account."""
        return (
            f"add {self.pipelines.id} to PipelineAccountIds (or to the unit of PipelineOrgPath) of "
            f"{self.repositories.target.name} in samconfig.toml, then {self.repositories.deploy}"
        )

    @property
    def name_repositories(self) -> str:
        """The fix if the parameters of the pipeline account do not name the repository account."""
        return (
            f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, "
            f"then {self.pipelines.deploy}"
        )

    def repository_arn(self, name: str) -> str:
        """The ARN of a repository."""
        return f"arn:aws:codecommit:{self.repositories.region}:{self.repositories.id}:{name}"

    def image_arn(self, name: str) -> str:
        """The ARN of a repository of images."""
        return f"arn:aws:ecr:{self.repositories.region}:{self.repositories.id}:repository/{name}"

    def place_of(self, account: str, document: Document) -> dict[str, str]:
        """The account's place in the organization as a condition key, if the policy asks for it and it can be seen."""
        key = "aws:PrincipalOrgPaths"
        found = self.repositories.organization_path(account) if key in json.dumps(document) else None
        return {key: found} if found else {}

    def pipeline_arn(self, name: str) -> str:
        """The ARN of a pipeline."""
        return f"arn:aws:codepipeline:{self.pipelines.region}:{self.pipelines.id}:{name}"

    def need_allowed(self, ask: Callable[[], bool], problem: str, fix: str) -> None:
        """Raises `Broken` unless the policies allow the request. If the policies are unclear, notes the question."""
        try:
            need(ask(), problem, fix)
        except Unclear as unclear:
            self.unclear.append(f"whether {problem}: {unclear}")

    def need_permission(
        self,
        role: Role,
        actions: Sequence[str],
        resource: str,
        purpose: str,
        fix: str,
        context: Context | None = None,
    ) -> None:
        """Raises `Broken` unless the role may do all the actions."""
        # The ARN of a bucket names no account. The only bucket here is the pipeline account's artifact bucket.
        owner = {} if resource == "*" else {"aws:ResourceAccount": resource.split(":")[4] or self.pipelines.id}
        for action in actions:
            problem = f"{role.arn} may not {purpose} ({action})"
            self.need_allowed(partial(role.may, action, resource, owner | dict(context or {})), problem, fix)

    def need_admission(
        self,
        document: Document,
        role: str,
        action: str,
        resource: str,
        owner: str,
        fix: str,
        context: Context | None = None,
    ) -> None:
        """Raises `Broken` unless the resource's policy admits the role, which may belong to another account."""
        account = role.split(":")[4]
        facts = {**(context or {}), "aws:PrincipalArn": role, "aws:SecureTransport": "true"}
        facts |= self.place_of(account, document)
        self.need_allowed(
            lambda: allows(document, action, resource, facts, account),
            f"{owner} does not let {role} in ({action})",
            fix,
        )

    def need_trust(self, account: Account, arn: str, service: str, context: Context | None = None) -> Role:
        """Returns the role; raises `Broken` unless the service may assume the role."""
        role = account.role(arn)
        self.need_allowed(
            lambda: allows(role.trust, "sts:AssumeRole", "*", context or {}, service),
            f"{arn} does not trust {service}",
            account.deploy,
        )
        return role

    def need_function(self, account: Account, function: str, arn: str, *more: str) -> Role:
        """Returns the function's role; raises `Broken` unless the function runs and can use its ledger.

        `more` are the actions on the ledger that only this function needs.
        """
        account.need_running(function, arn)
        role = self.need_trust(account, arn, "lambda.amazonaws.com")
        table = account.outputs["LedgerTableName"]
        resource = f"arn:aws:dynamodb:{account.region}:{account.id}:table/{table}"
        self.need_permission(role, [*USE_LEDGER, *more], resource, f"keep the ledger {table}", account.deploy)
        return role

    def need_use_of_key(self, role: Role, fix: str, fix_of_key: str) -> None:
        """Raises `Broken` unless the role's policies and the key's policy let the role use the key through S3."""
        kms = self.pipelines.client("kms")
        context = {"kms:ViaService": f"s3.{self.pipelines.region}.amazonaws.com"}
        document = json.loads(kms.get_key_policy(KeyId=self.key, PolicyName="default")["Policy"])
        self.need_permission(role, USE_KEY, self.key, f"use {self.key}", fix, context)
        for action in USE_KEY:
            self.need_admission(document, role.arn, action, self.key, f"key {self.key}", fix_of_key, context)

    @cached_property
    def routes(self) -> list[Route]:
        """The routes in the local sekisho.toml from the repositories to the pipeline account and its region."""
        account, region = self.pipelines.id, self.pipelines.region
        found = routes_to(account, region, CONFIG.read_text(), self.repositories.region)
        need(
            bool(found),
            f"no route leads to account {account} in {region}",
            f"add a target to {CONFIG.name}, then deploy to both accounts",
        )
        return found

    @cache  # noqa: B019 (a path lives as long as the program)
    def source_action(self, route: Route) -> tuple[dict[str, Any], dict[str, Any]]:
        """The routed pipeline, and its source action."""
        codepipeline = self.pipelines.client("codepipeline")
        try:
            found = codepipeline.get_pipeline(name=route.pipeline)["pipeline"]
        except codepipeline.exceptions.PipelineNotFoundException:
            raise Broken(
                f"account {self.pipelines.id} has no pipeline {route.pipeline}, which {CONFIG.name} routes to",
                f"set ManagesPipeline=true for {self.pipelines.target.name} in samconfig.toml and "
                f"{self.pipelines.deploy}, or correct the route",
            ) from None
        for stage in found["stages"]:
            for action in stage["actions"]:
                if action["name"] == route.action:
                    return found, action
        raise Broken(
            f"pipeline {route.pipeline} has no action {route.action}",
            f"correct `action` in {CONFIG.name}, then deploy to both accounts",
        )

    def fix_of_pipeline(self, pipeline: str) -> str:
        """The fix for a pipeline whose definition is wrong."""
        profile = f"--profile {self.pipelines.target.profile} --region {self.pipelines.region}"
        return (
            f"{self.pipelines.deploy} if the stack manages the pipeline; else aws codepipeline get-pipeline "
            f"--name {pipeline} --query '{{pipeline: pipeline}}' {profile} > {pipeline}.json, correct that file, "
            f"aws codepipeline update-pipeline --cli-input-json file://{pipeline}.json {profile}"
        )
