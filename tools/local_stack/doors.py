"""The people of the local stack, hana and taro, with their doors of temp-access; and production as the hub of test.

Both are members of production's Slack channel, and each has chosen the role of the own door. Each has a profile of AWS,
with the keys by which Chatbot acts for that member.
"""

import json
from typing import TYPE_CHECKING

from tools.layout import ACCOUNTS, OUTSIDE_ACCOUNT, PERSON, REGION, ROOT, TEST_PERSON, tool
from tools.processes import Word, run

if TYPE_CHECKING:
    from tools.local_stack.stack import Stack

HUB, TARGET = "production", "test"
CHANNEL = f"sekisho-{ACCOUNTS[HUB]}-{REGION}"
# What the people may ask for and approve.
OPERATOR, EMERGENCY = "operator", "emergency"
HANA, TARO = "hana", "taro"
PEOPLE = (HANA, TARO)
CONFIGURATION = f"""
[access.profiles.{OPERATOR}]
statements  = [{{ actions = ["lambda:*"], resources = ["*"] }}]
max_minutes = 60
approval    = "another"
[access.profiles.{EMERGENCY}]
statements     = [{{ actions = ["*"], resources = ["*"] }}]
max_minutes    = 30
require_reason = true
break_glass    = true
[access.people.{HANA}]
may_ask = ["read-only", "{OPERATOR}", "{EMERGENCY}"]
for     = ["user/{PERSON}", "user/{TEST_PERSON}", "person/{HANA}@example.com"]
may_approve = ["{OPERATOR}"]
[access.people.{TARO}]
may_ask     = ["{OPERATOR}"]
for         = ["user/{TARO}"]
may_approve = ["{OPERATOR}", "{EMERGENCY}"]
[access.people.approvers]
members     = ["{HANA}", "{TARO}"]
may_approve = ["{OPERATOR}"]
[access.accounts]
{TARGET}    = "{ACCOUNTS[TARGET]}"
outside = "{OUTSIDE_ACCOUNT}"
"""


def open_doors(stack: "Stack") -> dict[str, dict[str, str]]:
    """Makes the doors in both accounts, and returns the keys of each person's session."""
    _make(stack, TARGET, "hub")
    for profile in (HUB, TARGET):
        for name in (*PEOPLE, "approvers"):
            _make(stack, profile, "person", "--name", name)
    return {name: _session(stack, name) for name in PEOPLE}


def _make(stack: "Stack", profile: str, command: str, *more: str) -> None:
    """Runs `make person` or `make hub` for an account of the local stack."""
    title = " ".join(["Making the door", *(more[1:] or [command]), "in", profile])
    arguments: list[Word] = [tool("python"), "-m", f"tools.operations.{command}", "--env", f"local-{profile}", *more]
    log = stack.places.logs / f"door-{profile}-{'-'.join(more[1:] or [command])}.log"
    run(title, arguments, log, cwd=ROOT, env=stack.environment(profile))


def _session(stack: "Stack", name: str) -> dict[str, str]:
    """A member of the channel chooses the role of the own door; the keys of the session by which Chatbot then acts."""
    role = f"arn:aws:iam::{ACCOUNTS[HUB]}:role/sekisho-door-{name}-{REGION}"
    stack.post(f"slack-role/{ACCOUNTS[HUB]}/{CHANNEL}/{name}", role)
    return member(stack, name)


def member(stack: "Stack", name: str, channel: str = CHANNEL) -> dict[str, str]:
    """The keys by which Chatbot acts for a member of a channel, as the arguments of a client of boto3."""
    keys: dict[str, str] = json.loads(stack.post(f"slack-session/{ACCOUNTS[HUB]}/{channel}", name))
    return keys
