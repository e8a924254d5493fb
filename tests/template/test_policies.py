"""What every policy of every account keeps to."""

import json
import re

import parliament
import pytest
from template import deployed
from template.policies import listed

# Where AWS knows no narrower resource, by Sid: the first three take none; a key's own policy means the key.
ANY_RESOURCE = {"ListRepositories", "ListPipelines", "FindGrants", "Administer", "UseHere", "PutSource"}
# What parliament finds and we mean: kind of policy, finding, what the finding says.
MEANT = [
    ("trust", "MALFORMED", "neither Resource nor NotResource"),  # a trust policy has none
    ("key", "RESOURCE_STAR", ""),  # in a key's own policy this is the key
    ("function", "INVALID_SID", "Permission-"),  # the emulator makes these up
    ("identity", "INVALID_ARN", "aws:transform/Serverless-2016-10-31"),  # AWS's own
    ("identity", "UNKNOWN_ACTION", "s3:UpdateObjectEncryption"),  # newer than parliament's list
    ("bucket", "MISMATCHED_TYPE_BUT_USABLE", "StringNotEquals"),  # the header is compared as it was sent
]
MANAGED_POLICY_LIMIT, ROLE_INLINE_LIMIT, TRUST_LIMIT = 6144, 10240, 2048


def every(accounts):
    return [(account, policy) for account, found in accounts.items() for policy in found]


def test_each_account_has_what_its_duties_need(accounts):
    kinds = {account: sorted({policy.kind for policy in found}) for account, found in accounts.items()}
    assert kinds["111111111111"] == ["function", "identity", "queue", "topic", "trust"]
    assert kinds["222222222222"] == ["bucket", "bus", "function", "identity", "key", "queue", "topic", "trust"]
    assert kinds["333333333333"] == sorted([*kinds["222222222222"], "boundary", "managed"])


def test_parliament_finds_nothing_that_is_not_meant(everywhere):
    found, unused = [], set(MEANT)
    for account, policy in every(everywhere):
        analyzed = parliament.analyze_policy_string(json.dumps(policy.document))
        for one in analyzed.findings:
            meant = [entry for entry in MEANT if entry[:2] == (policy.kind, one.issue) and entry[2] in str(one)]
            unused -= set(meant)
            if not meant:
                found.append(f"{account} {policy}: {one}")
    assert found == []
    assert unused == set()


def test_no_policy_names_a_role_or_user_of_another_account(everywhere):
    for account, policy in every(everywhere):
        for statement in policy.statements:
            for principal in listed(statement.get("Principal", {}).get("AWS", []) if isinstance(statement.get("Principal"), dict) else []):
                assert re.fullmatch(r"arn:aws:iam::\d{12}:root", principal), f"{account} {policy}: {principal}"


def test_whom_another_account_is_held_to_is_one_role(everywhere):
    for account, policy in every(everywhere):
        for statement in policy.statements:
            principal = statement.get("Principal")
            foreign = isinstance(principal, dict) and any(account not in one for one in listed(principal.get("AWS", [])))
            if statement["Effect"] == "Allow" and foreign:
                held = [value for keys in statement["Condition"].values() for key, value in keys.items() if key == "aws:PrincipalArn"]
                assert held, f"{account} {policy}: {statement}"


def test_anybody_is_only_denied(everywhere):
    for account, policy in every(everywhere):
        for statement in policy.statements:
            if statement.get("Principal") == "*":
                assert statement["Effect"] == "Deny", f"{account} {policy}: {statement}"


def test_services_are_held_to_this_account(everywhere):
    """But Lambda, which sets no source when it takes a role, and EventBridge's permission, whose rule says the account."""
    for account, policy in every(everywhere):
        for statement in policy.statements:
            services = listed(statement["Principal"].get("Service", [])) if isinstance(statement.get("Principal"), dict) else []
            if not services or services == ["lambda.amazonaws.com"]:
                continue
            held = json.dumps(statement.get("Condition", {})).lower()
            assert "aws:sourcearn" in held, f"{account} {policy}: {statement}"
            assert account in held, f"{account} {policy}: {statement}"


def test_wildcard_actions_only_deny(everywhere):
    for account, policy in every(everywhere):
        if policy.kind == "boundary":
            continue
        for statement in policy.statements:
            if statement["Effect"] == "Allow":
                assert not [one for one in listed(statement["Action"]) if "*" in one], f"{account} {policy}: {statement}"


def test_any_resource_only_where_aws_knows_no_other(everywhere):
    for account, policy in every(everywhere):
        for statement in policy.statements:
            if statement["Effect"] == "Allow" and policy.kind != "boundary" and "*" in listed(statement.get("Resource", [])):
                assert statement["Sid"] in ANY_RESOURCE, f"{account} {policy}: {statement}"


def test_the_boundary_denies_by_action_and_arn(everywhere):
    boundaries = [policy for _, policy in every(everywhere) if policy.kind == "boundary"]
    assert len(boundaries) == 2
    for boundary in boundaries:
        assert all("NotAction" not in statement for statement in boundary.statements)
        conditions = {statement["Sid"]: statement["Condition"] for statement in boundary.statements if "Condition" in statement}
        assert conditions == {"GrantsOfKeys": {"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}}}


@pytest.mark.parametrize(("kinds", "limit"), [
    (("boundary", "managed"), MANAGED_POLICY_LIMIT), (("identity",), ROLE_INLINE_LIMIT), (("trust",), TRUST_LIMIT)])
def test_policies_fit(everywhere, kinds, limit):
    sizes = {}
    for _, policy in every(everywhere):
        if policy.kind in kinds:
            # IAM counts all inline policies of a role together, white space aside.
            sizes[policy.on] = sizes.get(policy.on, 0) + len(re.sub(r"\s", "", json.dumps(policy.document)))
    assert sizes
    assert {on: size for on, size in sizes.items() if size > limit} == {}
