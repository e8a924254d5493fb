"""Requests of a user who has access to everything, for each service of AWS: what the boundary refuses, and what not.

The tables in tests/iam/boundary name the actions.
"""

from tests.iam.requests import REQUESTS, Request
from tests.iam.services import actions, named, rows
from tests.iam.table.access import NOW, USERS

# A statement of its own decides about these actions, depending on the resource or a condition.
ELSEWHERE = {"sts:AssumeRole", "kms:CreateGrant"}
# The simulator takes one resource, and these actions need two of different types.
OF_TWO_RESOURCES = {"ec2-instance-connect:OpenTunnel", "mediapackagev2:PutChannelPolicy"}


def requests(user, account, service, row):
    """Yields a request for each action that the row of the service names."""
    refused = {action for reason in row.denied.values() for action in named(service, reason)}
    # Of a service without denials and without a remark that names actions, the first action is tried.
    allowed = named(service, row.remark) or (set() if row.denied else {min(actions()[service])})
    for action in sorted(refused | allowed):
        does = f"{service}:{action}"
        if does not in ELSEWHERE | OF_TWO_RESOURCES:
            what, why = ("does not do what lasts", "WhatLasts") if action in refused else ("works", None)
            yield Request(what, user, does, None, account, NOW, why)


for account, user in USERS.items():
    for service, row in rows().items():
        REQUESTS.extend(requests(user, account, service, row))
