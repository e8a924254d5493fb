"""Collects the policies of the expanded template, with an environment's values, as Access Analyzer can read them.

A value that exists only after the deployment, such as the id of a key, is replaced by an example of the same form.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tools.layout import ROOT
from tools.operations.environment import Environment

TEMPLATE = ROOT / "template.yaml"
BOOTSTRAP = ROOT / "bootstrap"
# The location of a package that does not exist. A template with this location can be expanded, but not deployed.
NO_CODE = {"Bucket": "no-code", "Key": "no-code"}
KEY_ID = "00000000-0000-4000-8000-000000000000"
NAMES = (
    *("RoleName", "FunctionName", "TopicName", "QueueName", "TableName", "BucketName", "ManagedPolicyName"),
    *("LogGroupName", "ConfigurationName", "RepositoryName", "AliasName", "Name"),
)
# The part of an ARN after the partition, for each type of resource.
RESOURCES = {
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{name}",
    "AWS::Events::EventBus": "events:{region}:{account}:event-bus/{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::InstanceProfile": "iam::{account}:instance-profile/{name}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::KMS::Key": f"kms:{{region}}:{{account}}:key/{KEY_ID}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
}
# The resource types for which `Ref` returns the ARN.
REF_IS_ARN = {"AWS::SNS::Topic", "AWS::IAM::ManagedPolicy"}
NO_VALUE = object()


class Policy(NamedTuple):
    """One policy of a template, and its kind as Access Analyzer names it."""

    name: str
    kind: str
    # For a trust policy or a bucket policy, the resource type that Access Analyzer needs to know; otherwise None.
    of: str | None
    document: dict[str, Any]


def source() -> dict[str, Any]:
    """The committed template, in which `NO_CODE` replaces the code of the functions and the layers."""
    template: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    template["Globals"]["Function"]["CodeUri"] = NO_CODE
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = NO_CODE
    return template


def expanded(session: boto3.Session) -> dict[str, Any]:
    """The template as CloudFormation sees it after the transform, in the session's region."""
    translator = Translator({}, Parser(), boto_session=session)
    found: dict[str, Any] = translator.translate(source(), {}, {})
    return found


def policies(target: Environment, session: boto3.Session) -> list[Policy]:
    """All policies of an environment's stack, and all policies of the templates in bootstrap/."""
    partition = session.get_partition_for_region(target.region)
    found = _policies("", Values(expanded(session), target, target.parameters, partition))
    for file in sorted(BOOTSTRAP.glob("*.yaml")):
        found += _policies(f"{file.stem}: ", Values(_parsed(file), target, {}, partition))
    return found


def _parsed(file: Path) -> dict[str, Any]:
    template: dict[str, Any] = yaml_parse(file.read_text())
    return template


def _policies(prefix: str, values: "Values") -> list[Policy]:
    found = []
    for name, resource in values.template["Resources"].items():
        if not values.exists(resource):
            continue
        given = values.resolve(resource.get("Properties", {}))
        for label, kind, of, document in _documents(resource["Type"], given):
            found.append(Policy(f"{prefix}{name}{label}", kind, of, document))
    return found


def _documents(kind: str, given: dict[str, Any]) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """The policies in the properties of a resource, each with a label and with the `kind` and `of` of its `Policy`."""
    resource, identity = "RESOURCE_POLICY", "IDENTITY_POLICY"
    match kind:
        case "AWS::IAM::Role":
            trust = (" (trust)", resource, "AWS::IAM::AssumeRolePolicyDocument", given["AssumeRolePolicyDocument"])
            inline = given.get("Policies", [])
            return [trust, *[(f" ({one['PolicyName']})", identity, None, one["PolicyDocument"]) for one in inline]]
        case "AWS::IAM::ManagedPolicy":
            return [("", identity, None, given["PolicyDocument"])]
        case "AWS::S3::BucketPolicy":
            return [("", resource, "AWS::S3::Bucket", given["PolicyDocument"])]
        case "AWS::KMS::Key":
            return [("", resource, None, given["KeyPolicy"])]
        case "AWS::Events::EventBus":
            return [("", resource, None, given["Policy"])] if "Policy" in given else []
        case "AWS::ECR::Repository" if "RepositoryPolicyText" in given:
            policy = given["RepositoryPolicyText"]
            # The policy of a repository names no resource, and Access Analyzer asks for one.
            statements = [{"Resource": "*"} | statement for statement in policy["Statement"]]
            return [("", resource, None, policy | {"Statement": statements})]
        case "AWS::SNS::TopicPolicy" | "AWS::SQS::QueuePolicy":
            return [("", resource, None, given["PolicyDocument"])]
    return []


class Values:
    """Evaluates the intrinsic functions of a template."""

    def __init__(self, template: dict[str, Any], target: Environment, given: dict[str, str], partition: str) -> None:
        self.template, self.region, self.account = template, target.region, target.account
        self.refs: dict[str, Any] = {
            "AWS::AccountId": target.account,
            "AWS::Region": target.region,
            "AWS::Partition": partition,
            "AWS::StackName": target.stack,
            "AWS::URLSuffix": "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com",
            "AWS::StackId": f"arn:{partition}:cloudformation:{target.region}:{target.account}:stack/{target.stack}/1",
            "AWS::NoValue": NO_VALUE,
        }
        for name, parameter in template.get("Parameters", {}).items():
            value = str(given.get(name, parameter.get("Default", self._example(name))))
            self.refs[name] = value.split(",") if parameter["Type"] == "CommaDelimitedList" else value

    def _example(self, name: str) -> str:
        """An example value for a parameter that has neither a given value nor a default."""
        return f"arn:aws:iam::{self.account}:role/example" if "Arn" in name else self.account

    def exists(self, resource: dict[str, Any]) -> bool:
        """Whether the resource's condition is true."""
        return "Condition" not in resource or self._condition(resource["Condition"])

    def _condition(self, name: str) -> bool:
        return bool(self.resolve(self.template["Conditions"][name]))

    def resolve(self, value: Any) -> Any:
        """The value without intrinsic functions."""
        if isinstance(value, list):
            return [one for one in map(self.resolve, value) if one is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, given),) = value.items()
            if function in ("Ref", "Condition") and isinstance(given, str):
                return self._ref(given) if function == "Ref" else self._condition(given)
            if function.startswith("Fn::"):
                return self._call(function, given)
        resolved = {key: self.resolve(one) for key, one in value.items()}
        return {key: one for key, one in resolved.items() if one is not NO_VALUE}

    def _call(self, function: str, given: Any) -> Any:
        if function == "Fn::If":
            name, yes, no = given
            return self.resolve(yes if self._condition(name) else no)
        if function == "Fn::GetAtt":
            name, attribute = given if isinstance(given, list) else given.split(".", 1)
            return self._attribute(name, attribute)
        if function == "Fn::Sub":
            return self._sub(given)
        values = self.resolve(given)
        match function:
            case "Fn::Join":
                return str(values[0]).join(map(str, values[1]))
            case "Fn::Split":
                return str(values[1]).split(values[0])
            case "Fn::Select":
                return values[1][int(values[0])]
            case "Fn::Equals":
                return values[0] == values[1]
            case "Fn::Not":
                return not values[0]
            case "Fn::And":
                return all(values)
            case "Fn::Or":
                return any(values)
        raise KeyError(f"{function}: tools/operations/expansion.py does not know it")

    def _sub(self, given: Any) -> str:
        text, extra = given if isinstance(given, list) else (given, {})
        more = self.resolve(extra)

        def replaced(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in more:
                return str(more[name])
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", replaced, text)

    def _ref(self, name: str) -> Any:
        if name in self.refs:
            return self.refs[name]
        resource = self.template["Resources"][name]
        return self._arn(name) if resource["Type"] in REF_IS_ARN else self._name(name)

    def _attribute(self, name: str, attribute: str) -> str:
        return self._arn(name) if attribute.endswith("Arn") else self._name(name)

    def _name(self, name: str) -> str:
        resource = self.template["Resources"][name]
        if resource["Type"] == "AWS::KMS::Key":
            return KEY_ID
        properties = resource.get("Properties", {})
        return str(next((self.resolve(properties[key]) for key in NAMES if key in properties), name))

    def _arn(self, name: str) -> str:
        kind = self.template["Resources"][name]["Type"]
        service = kind.split("::")[1].lower()
        form = RESOURCES.get(kind, f"{service}:{{region}}:{{account}}:{{name}}")
        rest = form.format(region=self.region, account=self.account, name=self._name(name))
        return f"arn:{self.refs['AWS::Partition']}:{rest}"


def as_text(document: dict[str, Any]) -> str:
    """A policy as JSON."""
    return json.dumps(document, separators=(",", ":"))
