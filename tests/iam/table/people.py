"""Requests about people of Identity Center: temp-access looks them up, and writes the policy that lets them in."""

from tests.iam.requests import ALL, STRANGER, P, but, may, never, role
from tests.iam.table.access import NOW, USERS
from tools.layout import IDENTITY_STORE, REGION

ACCESS = role(P, "temp-access")
STORE = f"arn:aws:identitystore::{STRANGER}:identitystore/{IDENTITY_STORE}"
may(
    "looks up a person",
    ACCESS,
    "identitystore:GetUserId",
    STORE,
    but("in another identity store", "identity", to=STORE.replace(IDENTITY_STORE, "d-9876543210")),
    anywhere=["account", "else there"],
)
may(
    "looks up a person",
    ACCESS,
    "identitystore:GetUserId",
    "arn:aws:identitystore:::user/906739e2-90f1-70c2-5bd2-f18b3a1a2f3b",
    anywhere=["name"],
)
never("looks up nobody without an identity store", role(ALL, "temp-access"), "identitystore:GetUserId", STORE)
never("changes nobody", ACCESS, "identitystore:CreateUser identitystore:UpdateUser", STORE)

VERSIONS = "iam:CreatePolicyVersion iam:DeletePolicyVersion iam:GetPolicy iam:GetPolicyVersion iam:ListPolicyVersions"
# Without an identity store as well, because a revoke ends the access of people that an earlier deployment let in.
for account in (P, ALL):
    window = f"arn:aws:iam::{account}:policy/sekisho-window"
    writer = role(account, "temp-access")
    may(
        "lets people in",
        writer,
        VERSIONS,
        window,
        but("by another policy of the permission set", "identity", to=f"{window}-2"),
        but("by changing the boundary", "identity", to=f"arn:aws:iam::{account}:policy/sekisho-access-boundary"),
    )
    never("does not delete the policy", writer, "iam:DeletePolicy", window)
for account, user in USERS.items():
    for name in ("sekisho-window", "sekisho-window-2", "sekisho-window-3"):
        never(
            "lets nobody in after being let in",
            user,
            "iam:CreatePolicyVersion iam:DeletePolicyVersion iam:SetDefaultPolicyVersion",
            f"arn:aws:iam::{account}:policy/{name}",
            "WhatLasts",
            NOW,
        )

# The role of the permission set, which has these policies as the stack creates them.
PEOPLE = {
    account: f"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/{REGION}/AWSReservedSSO_sekisho-window_0a1b"
    for account in (P, ALL)
}
for person in PEOPLE.values():
    never("is not in before temp-access writes it", person, "s3:ListAllMyBuckets", context=NOW)
