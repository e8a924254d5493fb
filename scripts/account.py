"""One of the accounts of the way, with what is deployed in it; what should be there and is not is a broken link."""

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from urllib.error import URLError
from urllib.request import urlopen

from botocore.exceptions import ClientError
from policy import Unclear, allows, unread

CONFIG_LAYER = "sekisho-config"


class Broken(Exception):
    """A link that does not hold, and its mend."""

    def __init__(self, why, mend):
        super().__init__(why)
        self.mend = mend


def need(holds, why, mend):
    if not holds:
        raise Broken(why, mend)


@dataclass(frozen=True)
class Role:
    """What a role may, and who may take it."""

    arn: str
    trust: dict
    policy: dict
    boundary: dict | None

    def may(self, action, resource, context=None):
        """By its policies, and its boundary where it has one."""
        return all(allows(document, action, resource, context or {}) for document in (self.policy, self.boundary) if document is not None)


class Account:
    """One account, with what its stack says of itself."""

    def __init__(self, target):
        self.target, self.id, self.region = target, target.account, target.region
        self.session = target.session()
        self.deploy = f"make deploy ENV={target.name}"

    def client(self, service):
        return self.session.client(service)

    def administrator(self, command):
        """A mend that sekisho-deploy may not do."""
        return f"as an administrator of account {self.id}: aws {command} --region {self.region}"

    @cached_property
    def outputs(self):
        try:
            stack = self.client("cloudformation").describe_stacks(StackName=self.target.stack)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise Broken(f"account {self.id} has no stack {self.target.stack} in {self.region}", self.deploy) from None
        if not stack["StackStatus"].endswith("_COMPLETE") or "DELETE" in stack["StackStatus"]:
            raise Broken(f"stack {self.target.stack} of account {self.id} is {stack['StackStatus']}", f"see its events, then {self.deploy}")
        return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}

    def output(self, name, duty):
        need(name in self.outputs, f"the stack of account {self.id} has no {name}",
             f"set {duty}=true for {self.target.name} in samconfig.toml, then {self.deploy}")
        return self.outputs[name]

    @cache
    def role(self, arn):
        """A role of the account, with all its policies."""
        iam, name = self.client("iam"), arn.rpartition("/")[2]
        try:
            found = iam.get_role(RoleName=name)["Role"]
        except iam.exceptions.NoSuchEntityException:
            raise Broken(f"role {name} of account {self.id} is gone", self.deploy) from None
        documents = [iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in iam.list_role_policies(RoleName=name)["PolicyNames"]]
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        documents += [self._managed(one["PolicyArn"], f"managed policy {one['PolicyArn']} of role {name}") for one in attached]
        boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return Role(arn, found["AssumeRolePolicyDocument"], {"Statement": [one for document in documents for one in _statements(document)]},
                    boundary and self._managed(boundary, f"boundary {boundary} of role {name}"))

    def _managed(self, arn, what):
        """A managed policy as it is, or what stands for one that these credentials may not read."""
        iam = self.client("iam")
        try:
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        except ClientError as error:
            return unread(f"{what} is closed to you ({error.response['Error']['Code']}): read this policy yourself")

    @cache
    def function(self, arn):
        """A function as it is."""
        functions = self.client("lambda")
        try:
            return functions.get_function(FunctionName=arn)
        except functions.exceptions.ResourceNotFoundException:
            raise Broken(f"function {arn} is gone", self.deploy) from None

    def runs(self, arn, role):
        """Needs a function that has its role, and that nothing keeps from running."""
        found = self.function(arn)
        need(found["Configuration"]["Role"] == role, f"{arn} has the role {found['Configuration']['Role']}, not {role}", self.deploy)
        need(found.get("Concurrency", {}).get("ReservedConcurrentExecutions") != 0, f"{arn} never runs: its reserved concurrency is 0",
             self.administrator(f"lambda delete-function-concurrency --function-name {arn.rpartition(':')[2]}"))

    def config(self, function):
        """The sekisho.toml that a function has from its layer."""
        layers = self.function(function)["Configuration"].get("Layers", [])
        versions = [one["Arn"] for one in layers if f":layer:{CONFIG_LAYER}:" in one["Arn"]]
        need(versions, f"{function} has no layer {CONFIG_LAYER}", self.deploy)
        try:
            version = int(versions[0].rpartition(":")[2])
            location = self.client("lambda").get_layer_version(LayerName=CONFIG_LAYER, VersionNumber=version)["Content"]["Location"]
            with urlopen(location, timeout=60) as answer:
                archive = zipfile.ZipFile(io.BytesIO(answer.read()))
        except (ClientError, URLError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise Unclear(f"{versions[0]} can't be read ({error}): see yourself that it is what was deployed last") from None
        need("sekisho.toml" in archive.namelist(), f"{versions[0]} has no sekisho.toml", self.deploy)
        return archive.read("sekisho.toml").decode()

    def rule(self, name, wanted, function, bus="default", mend=None):
        """Needs a rule that is on, looks for what is wanted, sends to the function, and may."""
        events = self.client("events")
        try:
            found = events.describe_rule(Name=name, EventBusName=bus)
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"rule {name} of account {self.id} is gone", self.deploy) from None
        need(found["State"] == "ENABLED", f"rule {name} of account {self.id} is {found['State']}",
             self.administrator(f"events enable-rule --name {name} --event-bus-name {bus}"))
        looks = json.loads(found["EventPattern"]) if found.get("EventPattern") else found.get("ScheduleExpression")
        need(looks == wanted, f"rule {name} of account {self.id} looks for {json.dumps(looks)}, not {json.dumps(wanted)}", mend or self.deploy)
        need(function in [one["Arn"] for one in events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]],
             f"rule {name} of account {self.id} does not send to {function}", self.deploy)
        try:
            permission = json.loads(self.client("lambda").get_policy(FunctionName=function)["Policy"])
        except ClientError:
            permission = {"Statement": []}
        need(allows(permission, "lambda:InvokeFunction", function, {"aws:SourceArn": found["Arn"]}, "events.amazonaws.com"),
             f"{function} does not let rule {name} invoke it", self.deploy)


def _statements(document):
    found = document["Statement"]
    return found if isinstance(found, list) else [found]
