"""Rules that every policy of every account keeps."""

import json
import re
import zlib

import botocore.exceptions
import parliament
import pytest

from tests.template import deployed, policies
from tests.template.policies import listed

# Sids of statements for which AWS has no narrower resource, because the actions have no resource or apply to all
# resources, or because the statement is in the policy of a key, where `*` means that key.
ANY_RESOURCE = {
    "ListRepositories",
    "FindCachesOfOtherRegistries",
    "ListPipelines",
    "FindGrants",
    "FindSessions",
    "FindWhatWasDone",
    "Nothing",
    "FindLogGroups",
    "FindLogs",
    "FindAlarms",
    "ReadAlarms",
    "ReadMetrics",
    "Administer",
    "CreateJobs",
    "UseHere",
    "PutSource",
}
# Findings of the linter parliament that are accepted on purpose: kind of policy, finding, and a part of its text.
MEANT = [
    ("trust", "MALFORMED", "neither Resource nor NotResource"),  # a trust policy has neither
    ("images", "MALFORMED", "neither Resource nor NotResource"),  # nor has the policy of a repository of images
    ("key", "RESOURCE_STAR", ""),  # in a key's own policy, * means the key
    ("function", "INVALID_SID", "Permission-"),  # the emulator generates these Sids
    ("identity", "INVALID_ARN", "aws:transform/Serverless-2016-10-31"),  # the transform belongs to AWS
    # The actions and services in the next rows are newer than parliament's list.
    ("identity", "UNKNOWN_ACTION", "s3:UpdateObjectEncryption"),
    ("identity", "UNKNOWN_ACTION", "s3:GetObjectAnnotation"),
    ("identity", "UNKNOWN_ACTION", "s3:ListObjectAnnotations"),
    ("identity", "UNKNOWN_ACTION", "s3:PutObjectAnnotation"),
    ("identity", "UNKNOWN_ACTION", "lambda:GetFunctionScalingConfig"),
    ("bucket", "UNKNOWN_ACTION", "s3:UpdateObjectEncryption"),
    # Lambda adds this key to every request of a function, whatever the action.
    ("identity", "UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn"),
    # tests/iam/test_boundary.py checks the boundary's actions against a newer list.
    ("boundary", "UNKNOWN_ACTION", ""),
    ("boundary", "UNKNOWN_PREFIX", ""),
    ("managed", "RESOURCE_STAR", "cloudwatch:DescribeAlarms"),  # chat shows the graph of any alarm
    ("guardrail", "RESOURCE_STAR", "cloudwatch:DescribeAlarms"),
    # With a narrower resource, CloudWatch shows no composite alarms, and refuses a call that names no alarm exactly.
    ("identity", "RESOURCE_STAR", "cloudwatch:DescribeAlarms"),
    ("bucket", "MISMATCHED_TYPE_BUT_USABLE", "StringNotEquals"),  # the header must be compared exactly as sent
]
# The units that share the repository of images, each with the units below it.
READERS = [f"{deployed.ORG_UNIT}*", f"{deployed.OTHER_UNIT}*"]
# The permissions that AWS documents as necessary to show alarms in chat.
READS_IN_CHAT = {"cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*"}
MANAGED_POLICY_LIMIT, ROLE_INLINE_LIMIT, TRUST_LIMIT = 6144, 10240, 2048


def every(accounts):
    """Returns all policies of the stacks, without the policies that people create outside the stacks."""
    return [(account, policy) for account, found in accounts.items() for policy in found if policy.kind != "people's"]


def test_each_account_has_what_its_duties_need(accounts):
    kinds = {account: sorted({policy.kind for policy in found}) for account, found in accounts.items()}
    repositories = ["bus", "function", "identity", "queue", "topic", "trust"]
    assert kinds["111111111111"] == sorted([*repositories, "images"])
    assert kinds["222222222222"] == ["bucket", "bus", "function", "identity", "key", "queue", "topic", "trust"]
    assert kinds["333333333333"] == sorted([*kinds["222222222222"], "boundary", "guardrail", "managed", "window"])
    assert kinds["444444444444"] == sorted([*kinds["222222222222"], "boundary", "window"])
    assert kinds["555555555555"] == sorted([*kinds["222222222222"], "people's"])
    assert kinds["666666666666"] == sorted([*repositories, "guardrail", "managed"])


def test_parliament_finds_nothing_unintended(accounts):
    found, unused = [], set(MEANT)
    for account, policy in every(accounts):
        analyzed = parliament.analyze_policy_string(json.dumps(policy.document))
        for one in analyzed.findings:
            meant = [entry for entry in MEANT if entry[:2] == (policy.kind, one.issue) and entry[2] in str(one)]
            unused -= set(meant)
            if not meant:
                found.append(f"{account} {policy}: {one}")
    assert not found, "\n".join(found)
    assert unused == set()


def test_no_policy_names_a_role_or_user_of_another_account(accounts):
    for account, policy in every(accounts):
        for statement in policy.statements:
            for principal in listed(
                statement.get("Principal", {}).get("AWS", []) if isinstance(statement.get("Principal"), dict) else []
            ):
                assert re.fullmatch(r"arn:aws:iam::\d{12}:root", principal), f"{account} {policy}: {principal}"


def test_another_account_is_limited_to_one_role(accounts):
    for account, policy in every(accounts):
        for statement in policy.statements:
            principal = statement.get("Principal")
            foreign = isinstance(principal, dict) and any(
                account not in one for one in listed(principal.get("AWS", []))
            )
            if statement["Effect"] == "Allow" and foreign:
                held = [
                    value
                    for keys in statement["Condition"].values()
                    for key, value in keys.items()
                    if key == "aws:PrincipalArn"
                ]
                assert held, f"{account} {policy}: {statement}"


def test_a_principal_of_everybody_is_only_denied(accounts):
    """The only exceptions: an account that names an organizational unit admits two roles of its accounts, and a
    repository of images admits whoever is in the organizational units that share it.
    """
    everybody = ("*", {"AWS": "*"})
    unit = [
        (account, policy.kind, statement["Condition"])
        for account, policy in every(accounts)
        for statement in policy.statements
        if statement.get("Principal") in everybody and statement["Effect"] != "Deny"
    ]
    in_unit = {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{deployed.ORG_UNIT}*"}}
    starter, pipeline = "sekisho-pipeline-starter-*", "sekisho-pipeline-??-*-?"
    reports = {
        "ForAllValues:StringEquals": {"events:source": "sekisho.starter", "events:detail-type": "Order Report"},
        "Null": {"events:source": "false", "events:detail-type": "false"},
    }
    readers = {
        "ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": READERS},
        "StringNotEquals": {"aws:PrincipalAccount": "111111111111"},
    }
    assert unit == [
        ("111111111111", "images", readers),
        (
            "666666666666",
            "bus",
            {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::*:role/{starter}"}} | reports | in_unit,
        ),
        ("666666666666", "trust", {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::*:role/{pipeline}"}} | in_unit),
    ]


def test_a_bus_admits_only_what_its_account_needs(accounts):
    found = {
        account: [statement["Sid"] for policy in policies if policy.kind == "bus" for statement in policy.statements]
        for account, policies in accounts.items()
    }
    both, relay, report = ["Relay", "Report"], ["Relay"], ["Report"]
    assert list(found.values()) == [report, relay, relay, both, relay, report]


def test_services_are_limited_to_this_account(accounts):
    """The trust in Lambda is an exception, because Lambda sends no source when it assumes a role.

    Lambda pulls images for functions of the organizational units that share the repository.

    The ARN of a rule in a condition is limit enough, because it contains the account.
    """
    for account, policy in every(accounts):
        for statement in policy.statements:
            services = (
                listed(statement["Principal"].get("Service", []))
                if isinstance(statement.get("Principal"), dict)
                else []
            )
            if policy.kind == "images" and statement["Sid"] == "PullForFunctions":
                assert services == ["lambda.amazonaws.com"]
                assert statement["Condition"] == {"ForAnyValue:StringLike": {"aws:SourceOrgPaths": READERS}}
                continue
            if not services or (policy.kind == "trust" and services == ["lambda.amazonaws.com"]):
                continue
            held = json.dumps(statement.get("Condition", {})).lower()
            assert "aws:sourcearn" in held, f"{account} {policy}: {statement}"
            assert account in held, f"{account} {policy}: {statement}"


def test_wildcard_actions_only_deny(accounts):
    for account, policy in every(accounts):
        if policy.kind == "boundary":
            continue
        for statement in policy.statements:
            if statement["Effect"] == "Allow":
                wildcards = {one for one in listed(statement["Action"]) if "*" in one}
                assert wildcards <= (READS_IN_CHAT if statement.get("Sid") == "ReadMetrics" else set()), (
                    f"{account} {policy}: {statement}"
                )


def test_any_resource_is_used_only_if_aws_has_no_other(accounts):
    for account, policy in every(accounts):
        for statement in policy.statements:
            if (
                statement["Effect"] == "Allow"
                and policy.kind != "boundary"
                and "*" in listed(statement.get("Resource", []))
            ):
                assert statement["Sid"] in ANY_RESOURCE, f"{account} {policy}: {statement}"


def limits_the_owner(statement):
    """Returns whether a condition names the account of the resource, or the account's place in an organization."""
    keys = {key for condition in statement.get("Condition", {}).values() for key in condition}
    return bool(keys & {"aws:ResourceAccount", "aws:ResourceOrgPaths"})


def test_a_grant_on_a_pattern_of_buckets_names_their_owner(accounts, deployer, service_deployer):
    """The ARN of a bucket has no account, and anybody may create a bucket whose name matches a pattern."""
    found = [policy for _, policy in every(accounts)] + deployer + service_deployer
    granted = [
        (policy, statement)
        for policy in found
        if policy.kind in ("identity", "managed")
        for statement in policy.statements
        for resource in listed(statement.get("Resource", []))
        if statement["Effect"] == "Allow" and re.match(r"arn:aws:s3:::[^/]*[*?]", resource)
    ]
    assert granted
    assert [f"{policy}: {statement}" for policy, statement in granted if not limits_the_owner(statement)] == []


def test_the_boundary_denies_by_action_and_arn(accounts):
    boundaries = [policy for _, policy in every(accounts) if policy.kind == "boundary"]
    assert len(boundaries) == 2
    for boundary in boundaries:
        assert all("NotAction" not in statement for statement in boundary.statements)
        conditions = {
            statement["Sid"]: statement["Condition"] for statement in boundary.statements if "Condition" in statement
        }
        assert conditions == {"GrantsOfKeys": {"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}}}


LIMITS = {
    "boundary": MANAGED_POLICY_LIMIT,
    "guardrail": MANAGED_POLICY_LIMIT,
    "managed": MANAGED_POLICY_LIMIT,
    "window": MANAGED_POLICY_LIMIT,
    "identity": ROLE_INLINE_LIMIT,
    "trust": TRUST_LIMIT,
}


def test_policies_fit(accounts):
    assert too_large([policy for _, policy in every(accounts)]) == {}


def too_large(found):
    """Returns the policies that exceed IAM's limits. IAM adds up a role's inline policies and ignores white space."""
    sizes: dict[tuple[str, str], int] = {}
    for policy in found:
        if policy.kind in LIMITS:
            where = (policy.kind, policy.on)
            sizes[where] = sizes.get(where, 0) + len(
                re.sub(r"\s", "", json.dumps(policy.document, separators=(",", ":")))
            )
    assert sizes
    return {where: size for where, size in sizes.items() if size > LIMITS[where[0]]}


# For each list parameter: the duty that needs it, the shortest possible entries, and the number of entries that is
# allowed. Each list has one entry more than is allowed.
LISTS = {
    "PipelineAccountIds": ("HostsRepositories", [f"{number:012}" for number in range(56)], 55),
    "AssumableRoleArns": (
        "GrantsAccess",
        [f"arn:aws:iam::999999999999:role/{chr(97 + number)}" for number in range(20)],
        19,
    ),
    "ArtifactConsumerRoleArn": (
        "HostsPipelines",
        [f"arn:aws:iam::999999999999:role/{number:02}" for number in range(59)],
        58,
    ),
}


@pytest.mark.parametrize("parameter", LISTS)
def test_the_longest_lists_fit(cloud_of_all, parameter):
    duty, entries, most = LISTS[parameter]
    account, other = (f"{zlib.crc32(parameter.encode()) + number:012}" for number in (0, 1))
    given = {"HostsPipelines": "true", duty: "true"}
    with pytest.raises(botocore.exceptions.ClientError, match=parameter):
        cloud_of_all.deploy(other, given | {parameter: ",".join(entries[: most + 1])})
    cloud_of_all.deploy(account, given | {parameter: ",".join(entries[:most])})
    found = policies.of(cloud_of_all, account)
    assert sum(json.dumps(policy.document).count(entries[most - 1]) for policy in found), "the list is in no policy"
    assert too_large(found) == {}
