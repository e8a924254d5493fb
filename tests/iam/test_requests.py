"""The deployed policies decide each request in the table as expected, and a broken statement changes some outcome."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.iam import mutants
from tests.iam.requests import KEY, REQUESTS
from tests.iam.table import (  # noqa: F401 (requests)
    bakes,
    board,
    boundary,
    crossing,
    deployment,
    doors,
    functions,
    images,
    jobs,
    people,
    pipelines,
    queues,
)
from tests.iam.table.access import USERS
from tests.iam.table.doors import DOORS, MAPPED
from tests.iam.table.people import PEOPLE
from tests.template.policies import Policy
from tools.layout import REGION, ROOT

# Broken statements that change no outcome. Each row has a part of the mutant's name, and the reason.
UNNOTICED = [
    # Even if a statement names any principal, its condition on aws:PrincipalArn requires a role's ARN with the account.
    ("UseHere for anybody", "aws:PrincipalArn holds"),
    ("PutSource for anybody", "aws:PrincipalArn holds"),
    ("Relay for anybody", "aws:PrincipalArn holds"),
    ("role/sekisho-deploy-ap-northeast-1: statement 0 for anybody", "aws:PrincipalArn holds"),
    # The transform belongs to AWS, and the simulator does not recognize the transform as a resource of CreateChangeSet.
    ("ExpandServerless", "can't be simulated"),
    # In most of the next rows, a condition requires a key that no other action has, so other actions stay denied.
    ("Relay for events:*", "only PutEvents has events:source"),
    ("Report for events:*", "only PutEvents has events:source"),
    ("AnnounceFindings for events:*", "only PutEvents has events:source"),
    ("LetRolesLog for iam:*", "only AttachRolePolicy and DetachRolePolicy have iam:PolicyARN for a role"),
    ("GiveRolesToFunctions for iam:*", "only PassRole has iam:PassedToService"),
    ("DeployAsCloudFormation for iam:*", "only PassRole has iam:PassedToService"),
    ("GiveRoles for iam:*", "only PassRole has iam:PassedToService"),
    ("GiveServiceRole for iam:*", "only PassRole has iam:PassedToService"),
    ("PassRoleToJobs for iam:*", "only PassRole has iam:PassedToService"),
    ("ChatbotsOwnRole for iam:*", "only CreateServiceLinkedRole has iam:AWSServiceName"),
    ("stack-ap-northeast-1: EventSources for lambda:*", "the statements have all actions on a mapping"),
    ("Dashboard for cloudwatch:*", "the statement has all actions on a dashboard"),
    (
        "666666666666:role/sekisho-source-action-ap-northeast-1: EncryptSource for any resource",
        "it names any key; aws:ResourceOrgPaths limits the account",
    ),
    # Within one account the policy of the role is enough. The policy of the resource is needed only between accounts.
    ("sekisho-artifacts-444444444444-ap-northeast-1: PutSource", "the role's own permission is enough"),
    ("444444444444:event-bus/sekisho: Relay", "the role's own permission is enough"),
    ("444444444444:event-bus/sekisho: Report", "the role's own permission is enough"),
    (
        "333333333333:policy/sekisho-deploy-stack-ap-northeast-1: AsynchronousInvocations without Action lambda:Get",
        "without a service role, the deployers' role may read these settings anyway",
    ),
    ("temp-access:hana: Door", "the role's own permission is enough"),
    ("temp-access:approvers: Door", "the role's own permission is enough"),
    # The statement that denies everybody else names the same role.
    ("temp-access:hub: Door for anybody", "NobodyElse denies"),
    ("temp-access:hub: Door without StringEquals aws:PrincipalArn", "NobodyElse denies"),
]
# The policy that temp-access writes for the profile `admin`.
GRANT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "DateGreaterThan": {"aws:CurrentTime": "2026-11-21T10:00:00Z"},
                "DateLessThan": {"aws:CurrentTime": "2026-11-21T13:00:00Z"},
            },
        }
    ],
}


def indexed(found):
    """Returns all policies by id.

    Also returns the ids of the policies of roles and of resources by ARN, and the ids of the policies that limit a
    principal: the boundary for people who were let in, the guardrail for a role that a member of the channel mapped.
    """
    policies, roles, resources, limits = {"grant": GRANT}, {user: ["grant"] for user in USERS.values()}, {}, {}
    limited = {"boundary": USERS, "guardrail": MAPPED}
    for policy in found:
        policies[str(policy)] = policy.document
        match policy.kind:
            case "identity":
                roles.setdefault(policy.on, []).append(str(policy))
            case "managed" | "people's":
                for one in policy.roles:
                    roles.setdefault(one, []).append(str(policy))
            case "window":
                roles.setdefault(PEOPLE[policy.on.split(":")[4]], []).append(str(policy))
            case "boundary" | "guardrail":
                limits[limited[policy.kind][policy.on.split(":")[4]]] = str(policy)
            case _:
                resources[policy.on] = str(policy)
    return policies, roles, resources, limits


def with_key_ids(accounts, text):
    """Returns the text with the ids of the keys in place of the placeholders."""
    for account, placeholder in KEY.items():
        (key,) = [policy.on for policy in accounts[account] if policy.kind == "key"]
        text = text.replace(placeholder.rpartition(":")[2], key.rpartition(":")[2])
    return text


def prepared(accounts, others):
    policies, roles, resources, limits = indexed(
        [*(policy for found in accounts.values() for policy in found), *others]
    )
    simulated = []
    for request in REQUESTS:
        who, resource = request.who, with_key_ids(accounts, request.to or "") or None
        is_role = ":role/" in who
        caller = who.split(":")[4] if who.startswith("arn:") else None
        # A bucket's policy also applies to its objects. A role's trust policy applies only to assuming the role.
        on = (
            None
            if resource is None
            else resource.partition("/")[0]
            if resource.startswith("arn:aws:s3:::")
            else resource
        )
        policy = resources.get(on) if not on or ":role/" not in on or request.does.startswith("sts:") else None
        asks_resource = request.does.startswith(("sts:", "kms:"))
        # Within one account, either side may be enough. The policy of a repository of images must not be.
        within = caller == request.account and request.does.startswith("ecr:")
        if (request.why == "identity" and policy and not within) or (
            not policy and (asks_resource or caller != request.account)
        ):
            policy = "open"
        identity = ["administrator"] if request.why == "resource" else roles.get(who, ["administrator"])
        simulated.append(
            {
                "principal": f"arn:aws:sts::{caller}:assumed-role/{who.rpartition('/')[2]}/session" if is_role else who,
                "action": request.does,
                "resource": resource,
                "account": request.account,
                "context": {
                    **({"aws:PrincipalArn": who, "aws:PrincipalAccount": caller} if caller else {}),
                    **json.loads(with_key_ids(accounts, json.dumps(request.context))),
                },
                "identity": identity if caller else [],
                "boundary": limits.get(who),
                "resourcePolicy": policy,
            }
        )
    return policies, simulated


def run_simulator(policies, requests, **more):
    """Returns the output of simulate.mjs, which describes its input."""
    given = {"policies": policies, "requests": requests, "region": REGION}
    done = subprocess.run(
        ["node", ROOT / "tests" / "iam" / "simulate.mjs"],
        capture_output=True,
        text=True,
        check=False,
        # Lambda adds this key to every request of a function. AWS's list has it for no action, so the simulator would
        # drop it; a key that all actions have stands for it.
        input=json.dumps(given | more).replace("lambda:SourceFunctionArn", "aws:SourceArn"),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def simulate(policies, requests):
    """Returns the result of each request."""
    return run_simulator(policies, requests)["results"]


def noticed(policies, requests, broken):
    """Returns for each broken policy the index of a request whose outcome changes, or None."""
    processes = os.cpu_count() or 1
    parts = [broken[number::processes] for number in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(lambda part: run_simulator(policies, requests, mutants=part)["noticed"], parts))
    return [found[index % processes][index // processes] for index in range(len(broken))]


@pytest.fixture(scope="session")
def table(accounts, deployer, service_deployer, person):
    policies_of_doors = [Policy("function", alias, document) for alias, document in DOORS.items()]
    policies, requests = prepared(accounts, [*deployer, *service_deployer, *person, *policies_of_doors, board.POLICY])
    return policies, requests, simulate(policies, requests)


def test_every_policy_is_in_the_table(table):
    policies, requests, _ = table
    used = {
        one
        for request in requests
        for one in [*request["identity"], request["resourcePolicy"], request["boundary"]]
        if one
    }
    assert set(policies) - used == set()


def test_requests(table):
    _, _, results = table
    wrong = []
    for expected, found in zip(REQUESTS, results, strict=True):
        outcome = "Allowed" if expected.why is None else f"refused: {expected.why}"
        right = (
            found["result"] == "Allowed"
            if expected.why is None
            else found["result"] != "Allowed" and expected.why in found["why"]
        )
        if found["result"] == "error" or not right:
            wrong.append(
                f"{expected} by {expected.who} to {expected.to}: "
                f"expected {outcome}, found {found['result']} {found['why']}"
            )
        # The simulator drops context keys that the action does not have. A request with a dropped key proves nothing
        # about that key. A request that `may` added may have dropped keys, because it tests another difference.
        elif dropped := not expected.nearby and set(found["ignored"]) & set(expected.context):
            wrong.append(f"{expected}: dropped {dropped}")
    assert not wrong, "\n".join(wrong)
    print(f"{len(results)} requests, {sum(one.why is None for one in REQUESTS)} of them allowed")


def test_every_broken_statement_is_noticed(table):
    policies, requests, _ = table
    broken = [
        mutant
        for name, document in policies.items()
        if name != "grant" and not name.startswith(("people's", "window"))
        for mutant in mutants.of(name, document)
    ]
    concerned = {
        name: [
            index
            for index, request in enumerate(requests)
            if name in (*request["identity"], request["boundary"], request["resourcePolicy"])
        ]
        for name in policies
    }
    sent = [
        {
            "policy": mutant.policy,
            "document": mutant.document,
            "requests": [index for index in concerned[mutant.policy] if mutant.concerns(requests[index]["action"])],
        }
        for mutant in broken
    ]
    by_request = noticed(policies, requests, sent)
    unnoticed = [str(mutant) for mutant, by in zip(broken, by_request, strict=True) if by is None]
    excused = {part: [one for one in unnoticed if part in one] for part, _ in UNNOTICED}
    print(f"{len(broken)} broken statements, {len(broken) - len(unnoticed)} noticed")
    left = [one for one in unnoticed if not any(one in found for found in excused.values())]
    assert not left, "\n".join(left)
    assert [part for part, found in excused.items() if not found] == [], "excused for nothing"
