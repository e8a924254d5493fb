"""Lets AWS check the policies of the expanded template and a change set of the stack, and deploys nothing.

    make validate ENV=production        PROFILE=… for other credentials than the environment's own

Access Analyzer reads each policy with the environment's values. CloudFormation makes a change set, which is deleted
again and never executed. What can't be validated with these credentials is reported, with the reason.
"""

import argparse
import json
import sys
from collections import Counter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tools.failure import Failure
from tools.operations.environment import Environment, environment
from tools.operations.evidence import SAM_STACK
from tools.operations.expansion import as_text, policies, source
from tools.operations.experiments import described
from tools.operations.facts import end_in_order, uninterrupted

CHANGE_SET = "sekisho-validate"
# Each run replaces this one object, because the deploy role may not delete objects from sam's bucket.
OBJECT = "sekisho-validate.template"
UNREACHABLE = (BotoCoreError, ClientError, ResponseParserError)


class NotValidated(Exception):
    """Something could not be validated; the text says why, and what to do."""


def validate_policies(target: Environment, session: Any) -> bool:
    """Prints what Access Analyzer finds in the policies; returns whether it finds no error."""
    client, found, count = session.client("accessanalyzer"), Counter[str](), 0
    for policy in policies(target, session):
        kind = {"policyType": policy.kind} | ({"validatePolicyResourceType": policy.of} if policy.of else {})
        try:
            pages = list(
                client.get_paginator("validate_policy").paginate(policyDocument=as_text(policy.document), **kind)
            )
        except UNREACHABLE as error:
            raise NotValidated(f"the policies (Access Analyzer: {error})") from None
        count += 1
        for finding in (finding for page in pages for finding in page["findings"]):
            found[finding["findingType"]] += 1
            print(f"{finding['findingType']}  {policy.name}: {finding['findingDetails']}")
            print(f"    {finding['issueCode']}, {_places(finding)}: {finding['learnMoreLink']}")
    summary = ", ".join(f"{number} {kind}" for kind, number in sorted(found.items())) or "no findings"
    print(f"Access Analyzer read {count} policies: {summary}.")
    return not found["ERROR"]


def _places(finding: dict[str, Any]) -> str:
    """The places of a finding in the policy, such as `Statement[0].Action[1]`."""
    places = []
    for location in finding.get("locations", []):
        parts = [f".{one['value']}" if "value" in one else f"[{one.get('index')}]" for one in location["path"]]
        places.append("".join(parts).lstrip("."))
    return ", ".join(places) or "the whole policy"


def validate_change_set(target: Environment, session: Any) -> bool:
    """Lets CloudFormation make a change set, prints the changes, and returns whether CloudFormation could make it."""
    cloudformation, stack = session.client("cloudformation"), target.stack
    status = _status(cloudformation, stack)
    new = status in (None, "REVIEW_IN_PROGRESS")
    which = {"StackName": stack, "ChangeSetName": CHANGE_SET}
    request = {
        "TemplateURL": _uploaded(target, session),
        "ChangeSetType": "CREATE" if new else "UPDATE",
        "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in target.parameters.items()],
    }
    made = False
    try:
        with uninterrupted():
            cloudformation.create_change_set(**which, **request)
            made = True
        found = described(cloudformation, which)
    except UNREACHABLE as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ValidationError":
            print(f"CloudFormation refuses the template: {error.response['Error']['Message']}")
            return False
        raise NotValidated(f"the change set (CloudFormation: {error})") from None
    finally:
        if made:
            _delete(cloudformation, which, new_stack=status is None)
    return _report(found, stack)


def _report(found: dict[str, Any], stack: str) -> bool:
    reason = found.get("StatusReason", "")
    unchanged = "didn't contain changes" in reason or "No updates" in reason
    if found["Status"] != "CREATE_COMPLETE" and not unchanged:
        print(f"CloudFormation made no change set for stack {stack}: {found['Status']}: {reason}")
        return False
    actions = Counter(one["ResourceChange"]["Action"] for one in found.get("Changes", []))
    replaced = [
        one["ResourceChange"]["LogicalResourceId"]
        for one in found.get("Changes", [])
        if one["ResourceChange"].get("Replacement") == "True"
    ]
    summary = ", ".join(f"{action} {number}" for action, number in sorted(actions.items())) or "nothing to change"
    print(f"CloudFormation made a change set for stack {stack}, which was deleted again: {summary}.")
    if replaced:
        print(f"It would replace {', '.join(replaced)}: a resource with a fixed name can't be replaced.")
    return True


def _status(cloudformation: Any, stack: str) -> str | None:
    """The stack's status; None if there is no stack."""
    try:
        status: str = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise NotValidated(f"the change set (CloudFormation: {error})") from None
    return status


def _uploaded(target: Environment, session: Any) -> str:
    """The URL of the template in sam's bucket, because a template of this size can't be part of the request."""
    try:
        stacks = session.client("cloudformation").describe_stacks(StackName=SAM_STACK)["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks[0].get("Outputs", [])}
        bucket, s3 = outputs["SourceBucket"], session.client("s3")
        s3.put_object(Bucket=bucket, Key=OBJECT, Body=json.dumps(source()).encode())
    except (*UNREACHABLE, KeyError) as error:
        raise NotValidated(
            f"the change set (no template could be put into sam's bucket: {error}). The bucket exists after the first "
            f"make deploy ENV={target.name}, which shows a change set itself if confirm_changeset is set"
        ) from None
    url: str = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": OBJECT})
    return url.partition("?")[0]


def _delete(cloudformation: Any, which: dict[str, str], *, new_stack: bool) -> None:
    """Deletes the change set. If the change set created the stack, also deletes the stack, which is empty."""
    try:
        cloudformation.delete_change_set(**which)
        # Only a stack that this change set made is deleted, and only while it still has no resources.
        if new_stack and _status(cloudformation, which["StackName"]) == "REVIEW_IN_PROGRESS":
            cloudformation.delete_stack(StackName=which["StackName"])
    except UNREACHABLE as error:
        print(
            f"Not deleted: change set {CHANGE_SET} or the empty stack {which['StackName']} ({error}). "
            "Neither has resources, and make deploy uses such a stack."
        )


def validate(name: str, profile: str | None) -> bool:
    """Validates an environment; returns whether nothing is wrong. A part that can't be validated is only reported."""
    target = environment(name, profile)
    session, good = target.session(), True
    for check in (validate_policies, validate_change_set):
        try:
            good = check(target, session) and good
        except NotValidated as error:
            print(f"Not validated: {error}.")
    return good


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make validate", description="Has AWS check the policies and a change set, and deploys nothing"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    asked = parser.parse_args(arguments)
    end_in_order()
    try:
        sys.exit(0 if validate(asked.env, asked.profile) else 1)
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"Nothing was validated. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
