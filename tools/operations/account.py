"""One account of the delivery path and its deployed resources. A missing or wrong resource breaks the path."""

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from botocore.exceptions import ClientError

from tools.layout import BUS
from tools.operations.environment import Environment
from tools.operations.policy import Context, Document, Unclear, allows, as_list, unread

CONFIG_LAYER = "sekisho-config"


class Broken(Exception):
    """A link of the delivery path is broken. `fix` says how to repair the link."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


def need(holds: bool, problem: str, fix: str) -> None:
    """Raises `Broken` unless the condition holds."""
    if not holds:
        raise Broken(problem, fix)


@dataclass(frozen=True)
class Role:
    """A role with its trust policy, all its permissions in one document, and its boundary if it has one."""

    arn: str
    trust: Document
    policy: Document
    boundary: Document | None

    def may(self, action: str, resource: str, context: Context | None = None) -> bool:
        """Whether the role's policies and its boundary allow the request."""
        documents = [self.policy] if self.boundary is None else [self.policy, self.boundary]
        return all(allows(document, action, resource, context or {}) for document in documents)


def _joined(documents: list[Document]) -> Document:
    return {"Statement": [statement for document in documents for statement in as_list(document["Statement"])]}


class Account:
    """One account and the outputs of its stack."""

    def __init__(self, target: Environment) -> None:
        self.target, self.id, self.region = target, target.account, target.region
        self.session = target.session()
        self.deploy = f"make deploy ENV={target.name}"

    def client(self, service: str) -> Any:
        """A client for the service, with the environment's credentials."""
        return self.session.client(service)  # type: ignore[call-overload] # the stubs know only literal names

    @cache  # noqa: B019 (an account lives as long as the program)
    def organization_path(self, account: str) -> str | None:
        """The account's path in the organization, such as `o-…/r-…/ou-…/`; None if these credentials can't see it.

        Only the organization's management account and delegated administrators can see it.
        """
        organizations, path, child = self.client("organizations"), "", account
        try:
            while not child.startswith("r-"):
                (parent,) = organizations.list_parents(ChildId=child)["Parents"]
                child = parent["Id"]
                path = f"{child}/{path}"
            return f"{organizations.describe_organization()['Organization']['Id']}/{path}"
        except ClientError:
            return None

    def administrator(self, command: str) -> str:
        """A fix for an administrator, because the role sekisho-deploy may not make it."""
        return f"as an administrator of account {self.id}: aws {command} --region {self.region}"

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        name = self.target.stack
        try:
            stack = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise Broken(f"account {self.id} has no stack {name} in {self.region}", self.deploy) from None
        status = stack["StackStatus"]
        if not status.endswith("_COMPLETE") or "DELETE" in status:
            raise Broken(f"stack {name} of account {self.id} is {status}", f"see its events, then {self.deploy}")
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def output(self, name: str, duty: str) -> str:
        """One output of the stack. The stack has this output if the account has the duty."""
        need(
            name in self.outputs,
            f"the stack of account {self.id} has no {name}",
            f"set {duty}=true for {self.target.name} in samconfig.toml, then {self.deploy}",
        )
        return self.outputs[name]

    @cache  # noqa: B019 (an account lives as long as the program)
    def role(self, arn: str) -> Role:
        """A role of the account, with all its policies."""
        iam, name = self.client("iam"), arn.rpartition("/")[2]
        try:
            found = iam.get_role(RoleName=name)["Role"]
        except iam.exceptions.NoSuchEntityException:
            raise Broken(f"role {name} of account {self.id} is gone", self.deploy) from None
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline]
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            policy = attached["PolicyArn"]
            documents.append(self._managed(policy, f"managed policy {policy} of role {name}"))
        boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return Role(
            arn=arn,
            trust=found["AssumeRolePolicyDocument"],
            policy=_joined(documents),
            boundary=self._managed(boundary, f"boundary {boundary} of role {name}") if boundary else None,
        )

    @cache  # noqa: B019 (an account lives as long as the program)
    def roles(self) -> dict[str, Role]:
        """All roles of the account by their ARNs. The role sekisho-deploy may not read foreign roles one by one."""
        pages = (
            self.client("iam")
            .get_paginator("get_account_authorization_details")
            .paginate(Filter=["Role", "LocalManagedPolicy", "AWSManagedPolicy"])
        )
        found, managed = [], {}
        for page in pages:
            found += page["RoleDetailList"]
            for policy in page["Policies"]:
                default = (one["Document"] for one in policy["PolicyVersionList"] if one["IsDefaultVersion"])
                managed[policy["Arn"]] = next(default)

        def document(arn: str) -> Document:
            return managed.get(arn) or unread(f"managed policy {arn} was not listed: read this policy yourself")

        roles = {}
        for one in found:
            documents = [inline["PolicyDocument"] for inline in one["RolePolicyList"]]
            documents += [document(attached["PolicyArn"]) for attached in one["AttachedManagedPolicies"]]
            boundary = one.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
            roles[one["Arn"]] = Role(
                arn=one["Arn"],
                trust=one["AssumeRolePolicyDocument"],
                policy=_joined(documents),
                boundary=document(boundary) if boundary else None,
            )
        return roles

    def _managed(self, arn: str, what: str) -> Document:
        """The document of a managed policy, or a placeholder if these credentials may not read the policy."""
        iam = self.client("iam")
        try:
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            document: Document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        except ClientError as error:
            return unread(f"{what} is closed to you ({error.response['Error']['Code']}): read this policy yourself")
        return document

    @cache  # noqa: B019 (an account lives as long as the program)
    def function(self, arn: str) -> dict[str, Any]:
        """The answer of GetFunction; raises `Broken` if there is no such function."""
        functions = self.client("lambda")
        try:
            found: dict[str, Any] = functions.get_function(FunctionName=arn)
        except functions.exceptions.ResourceNotFoundException:
            raise Broken(f"function {arn} is gone", self.deploy) from None
        return found

    def need_running(self, arn: str, role: str) -> None:
        """Raises `Broken` unless the function has the role and its concurrency lets it run."""
        found = self.function(arn)
        actual = found["Configuration"]["Role"]
        need(actual == role, f"{arn} has the role {actual}, not {role}", self.deploy)
        need(
            found.get("Concurrency", {}).get("ReservedConcurrentExecutions") != 0,
            f"{arn} never runs: its reserved concurrency is 0",
            self.administrator(f"lambda delete-function-concurrency --function-name {arn.rpartition(':')[2]}"),
        )

    def config(self, function: str) -> str:
        """The text of the sekisho.toml in the function's layer."""
        layers = self.function(function)["Configuration"].get("Layers", [])
        versions = [layer["Arn"] for layer in layers if f":layer:{CONFIG_LAYER}:" in layer["Arn"]]
        need(bool(versions), f"{function} has no layer {CONFIG_LAYER}", self.deploy)
        try:
            version = int(versions[0].rpartition(":")[2])
            layer = self.client("lambda").get_layer_version(LayerName=CONFIG_LAYER, VersionNumber=version)
            with urlopen(layer["Content"]["Location"], timeout=60) as answer:
                archive = zipfile.ZipFile(io.BytesIO(answer.read()))
        except (ClientError, URLError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise Unclear(f"{versions[0]} can't be read ({error}): check that it is what was deployed last") from None
        need("sekisho.toml" in archive.namelist(), f"{versions[0]} has no sekisho.toml", self.deploy)
        return archive.read("sekisho.toml").decode()

    def policy_of_bus(self) -> Document:
        """The policy of the account's bus; raises `Broken` if there is no such bus."""
        events = self.client("events")
        try:
            document: Document = json.loads(events.describe_event_bus(Name=BUS).get("Policy") or "{}")
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"bus {BUS} of account {self.id} is gone", self.deploy) from None
        return document

    def need_rule(self, name: str, wanted: object, function: str, bus: str = "default", fix: str | None = None) -> None:
        """Raises `Broken` unless the rule is enabled, has the wanted trigger, and invokes the function."""
        events = self.client("events")
        try:
            found = events.describe_rule(Name=name, EventBusName=bus)
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"rule {name} of account {self.id} is gone", self.deploy) from None
        rule = f"rule {name} of account {self.id}"
        enable = self.administrator(f"events enable-rule --name {name} --event-bus-name {bus}")
        need(found["State"] == "ENABLED", f"{rule} is {found['State']}", enable)
        actual = json.loads(found["EventPattern"]) if found.get("EventPattern") else found.get("ScheduleExpression")
        problem = f"{rule} looks for {json.dumps(actual)}, not {json.dumps(wanted)}"
        need(actual == wanted, problem, fix or self.deploy)
        targets = [target["Arn"] for target in events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]]
        need(function in targets, f"{rule} does not send to {function}", self.deploy)
        try:
            permission = json.loads(self.client("lambda").get_policy(FunctionName=function)["Policy"])
        except ClientError:
            permission = {"Statement": []}
        context = {"aws:SourceArn": found["Arn"]}
        need(
            allows(permission, "lambda:InvokeFunction", function, context, "events.amazonaws.com"),
            f"{function} does not let rule {name} invoke it",
            self.deploy,
        )
