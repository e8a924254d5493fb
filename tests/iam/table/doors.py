"""Requests at the doors of temp-access: its aliases, each with a policy that admits one role and denies everybody else.

Whoever wants in without a second person might try another alias, `$LATEST`, a version, the hub, or the function in
another account. Each attempt is a request here, beside the one that it resembles.
"""

from dataclasses import replace

from tests.iam.requests import ALL, REQUESTS, STRANGER, UNIT_ACCOUNT, P, arn, but, may, never, role
from tests.iam.table.access import CHAT, NOW, USERS
from tests.iam.table.deployment import DEPLOYED_BY
from tools.layout import REGION
from tools.operations import doors

FUNCTION = arn("lambda", P, "function:temp-access")
HANA, APPROVERS, HUB = (f"{FUNCTION}:{name}" for name in ("hana", "approvers", "hub"))
HANA_ROLE, APPROVERS_ROLE, HUB_ROLE = role(P, "door-hana"), role(P, "door-approvers"), role(ALL, "temp-access")
# The policies that `make person` and `make hub` write for these aliases.
DOORS = {
    alias: doors.policy(alias, who) for alias, who in ((HANA, HANA_ROLE), (APPROVERS, APPROVERS_ROLE), (HUB, HUB_ROLE))
}
ADMINISTRATOR = f"arn:aws:iam::{P}:role/administrator"
# The role of an administrator that a member of the channel mapped, by the account of the channel. Only the guardrail
# limits it. (It also limits the role of the channel and the roles of doors, which may do less.)
MAPPED = {account: f"arn:aws:iam::{account}:role/mapped" for account in (P, UNIT_ACCOUNT)}


def other_ways(*left_out):
    """Returns the misses of somebody who may come only one way: every other qualifier, and other functions."""
    ways = {
        "at the channel's door": FUNCTION,
        "at Hana's door": HANA,
        "at the approvers' door": APPROVERS,
        "at Taro's door": f"{FUNCTION}:taro",
        "at the hub": HUB,
        "at the alias for dashboards": f"{FUNCTION}:board",
        "at the latest version": f"{FUNCTION}:$LATEST",
        "at a published version": f"{FUNCTION}:1",
        "at a function whose name begins the same": f"{FUNCTION}-x",
        "at another function": arn("lambda", P, "function:shop-api"),
    }
    return [but(what, "identity", to=to) for what, to in ways.items() if to not in left_out]


# With all permissions, these come through no door. The policy of the door denies them.
NOT_ADMITTED = [
    but("as an administrator of the account", "NobodyElse", who=ADMINISTRATOR),
    but("in the channel, with its role", "NobodyElse", who=CHAT),
    but("as temp-access itself", "NobodyElse", who=role(P, "temp-access")),
    but("as a role of the same name in another region", "NobodyElse", who=role(P, "door-hana", "eu-west-1")),
    but("as a role of the same name in another account", "NobodyElse", who=role(STRANGER, "door-hana")),
    but("as somebody who was let in", "ThisStack", who=USERS[P], context=NOW),
]

for who, door in ((HANA_ROLE, HANA), (APPROVERS_ROLE, APPROVERS)):
    other = APPROVERS_ROLE if who == HANA_ROLE else HANA_ROLE
    own = [door] if who == APPROVERS_ROLE else [door, FUNCTION]
    may(
        "asks and approves at its door",
        who,
        "lambda:InvokeFunction",
        door,
        *other_ways(*own),
        *NOT_ADMITTED,
        but("with the role of another door", "NobodyElse", who=other),
    )
    never(
        "changes neither a door nor the function",
        who,
        "lambda:CreateAlias lambda:DeleteResourcePolicy lambda:PutResourcePolicy lambda:UpdateAlias "
        "lambda:UpdateFunctionConfiguration",
        door,
    )
    never("maps nobody in Slack", who, "chatbot:GetSlackOauthParameters chatbot:RedeemSlackOauthCode")
may("asks in the channel with the role of a door", HANA_ROLE, "lambda:InvokeFunction", FUNCTION)
never(
    "asks nothing of the function in another account",
    f"arn:aws:iam::{ALL}:role/administrator",
    "lambda:InvokeFunction",
    FUNCTION,
    "resource",
)
for miss in other_ways(FUNCTION):
    never(f"asks in the channel, but {miss['but']}", CHAT, "lambda:InvokeFunction", miss["to"])

# The trust of the roles: a person cannot assume them, but Chatbot can for its channels.
CHANNEL = f"arn:aws:chatbot::{P}:chat-configuration/slack-channel"
for who, name in ((HANA_ROLE, f"sekisho-{P}-{REGION}"), (APPROVERS_ROLE, f"sekisho-approvers-{P}-{REGION}")):
    may(
        "is assumed by Chatbot",
        "chatbot.amazonaws.com",
        "sts:AssumeRole",
        who,
        but("for another channel", "resource", context={"aws:SourceArn": f"{CHANNEL}/orders"}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("by another service", "resource", who="ec2.amazonaws.com"),
        but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
        but("by somebody who was let in", "ThisStack", who=USERS[P], context=NOW),
        context={"aws:SourceArn": f"{CHANNEL}/{name}", "aws:SourceAccount": P},
    )
never(
    "is not assumed by Chatbot for the channel where people ask",
    "chatbot.amazonaws.com",
    "sts:AssumeRole",
    APPROVERS_ROLE,
    "resource",
    {"aws:SourceArn": f"{CHANNEL}/sekisho-{P}-{REGION}", "aws:SourceAccount": P},
)

# The temp-access of each account hands requests on to others. The hub of P takes them from ALL only.
for account, there in ((ALL, P), (P, ALL)):
    own, hub = arn("lambda", account, "function:temp-access"), arn("lambda", there, "function:temp-access:hub")
    for source in (own, f"{own}:hana"):
        may(
            "hands a request on to another account",
            role(account, "temp-access"),
            "lambda:InvokeFunction",
            hub,
            but(
                "as another function with the same role",
                "identity",
                context={"lambda:SourceFunctionArn": f"{own}-x"},
            ),
            but("from no function", "identity", context={"lambda:SourceFunctionArn": None}),
            but("to the function itself", "identity", to=hub.removesuffix(":hub")),
            but("to a door", "identity", to=hub.replace(":hub", ":hana")),
            but("to a version", "identity", to=hub.replace(":hub", ":1")),
            but("to its own hub", "identity", to=f"{own}:hub", context={"aws:ResourceAccount": account}),
            context={"lambda:SourceFunctionArn": source, "aws:ResourceAccount": there},
            # The role names neither an account nor a region: the policy of each hub decides, if there is one.
            anywhere=["account", "region", *([] if hub == HUB else ["else there"])],
        )
    never(
        "opens no door for itself",
        role(account, "temp-access"),
        "lambda:CreateAlias lambda:PutResourcePolicy lambda:UpdateFunctionConfiguration",
        own,
        context={"lambda:SourceFunctionArn": own},
    )
may(
    "takes requests of its hub",
    HUB_ROLE,
    "lambda:InvokeFunction",
    HUB,
    but("from an account that is not its hub", "NobodyElse", who=role(STRANGER, "temp-access")),
    but("from another region of its hub", "NobodyElse", who=role(ALL, "temp-access", "eu-west-1")),
    but("from the same account", "NobodyElse", who=role(P, "temp-access")),
    but("as an administrator of the hub's account", "NobodyElse", who=f"arn:aws:iam::{ALL}:role/administrator"),
    but("as an administrator of the account itself", "NobodyElse", who=ADMINISTRATOR),
    but("with the role of a door", "NobodyElse", who=HANA_ROLE),
    but("as somebody who was let in at the hub's account", "ThisStack", who=USERS[ALL], context=NOW),
    context={"lambda:SourceFunctionArn": arn("lambda", ALL, "function:temp-access"), "aws:ResourceAccount": P},
    anywhere=["account", "region"],
)
for door in DOORS:
    never(
        "comes through no door by its URL or the older API",
        ADMINISTRATOR,
        "lambda:InvokeFunctionUrl lambda:InvokeAsync",
        door,
        "NobodyElse",
    )

# What somebody who was let in cannot do to open a door, to map one or to come through one, with all permissions.
for account, user in USERS.items():
    function = arn("lambda", account, "function:temp-access")
    never(
        "opens no door after being let in",
        user,
        "lambda:AddPermission lambda:CreateAlias lambda:DeleteAlias lambda:DeleteResourcePolicy "
        "lambda:PutFunctionEventInvokeConfig lambda:PutResourcePolicy lambda:RemovePermission lambda:UpdateAlias",
        function,
        "ThisStack",
        NOW,
    )
    for qualifier in ("taro", "board", "$LATEST", "1"):
        never(
            "comes through no door after being let in",
            user,
            "lambda:InvokeFunction lambda:InvokeAsync",
            f"{function}:{qualifier}",
            "ThisStack",
            NOW,
        )
    never(
        "comes through no door of another account",
        user,
        "lambda:InvokeFunction",
        arn("lambda", STRANGER, "function:temp-access:hub"),
        "ThisStack",
        NOW,
    )
    never(
        "maps nobody in Slack after being let in",
        user,
        "chatbot:DeleteSlackUserIdentity chatbot:GetSlackOauthParameters chatbot:RedeemSlackOauthCode "
        "chatbot:UpdateSlackChannelConfiguration",
        why="WhatLasts",
        context=NOW,
    )
    never(
        "removes no door's role",
        user,
        "cloudformation:DeleteStack",
        arn("cloudformation", account, "stack/sekisho-door-hana/1"),
        "ThisStack",
        NOW,
    )

# temp-access looks up what was done.
for account in (P, ALL):
    may("looks up what was done", role(account, "temp-access"), "cloudtrail:LookupEvents", None)
    never(
        "does not change what is recorded",
        role(account, "temp-access"),
        "cloudtrail:StopLogging cloudtrail:PutEventSelectors",
    )

# The roles for deployment read the doors. Only an administrator opens one.
for deploy, caller in DEPLOYED_BY.values():
    account = caller.split(":")[4]
    door = arn("lambda", account, "function:temp-access:hana")
    may(
        "finds the doors",
        caller,
        "lambda:ListAliases",
        door.removesuffix(":hana"),
        but("of another function", "identity", to=arn("lambda", account, "function:sekisho-event-relay")),
    )
    may(
        "reads the policy of a door",
        caller,
        "lambda:GetFunctionEventInvokeConfig lambda:GetResourcePolicy",
        door,
        but("of an alias of another function", "identity", to=door.replace("temp-access", "sekisho-event-relay")),
    )
    may("reads the policy of a door", caller, "lambda:GetResourcePolicy", door.removesuffix(":hana"))
    for who in {deploy, caller}:
        never(
            "neither opens a door nor comes through one",
            who,
            "lambda:AddPermission lambda:DeleteResourcePolicy lambda:InvokeFunction lambda:PutResourcePolicy "
            "lambda:RemovePermission",
            door,
        )
        never(
            "does not map a person to a role in Slack",
            who,
            "chatbot:DeleteSlackUserIdentity chatbot:GetSlackOauthParameters chatbot:RedeemSlackOauthCode",
        )

# What the role of the channel may do, the role of a door may do as well, and the guardrail of the channel allows it.
# What the role of the channel may not do, neither of them does, except at doors.
RELAY = arn("lambda", P, "function:sekisho-event-relay")
may("controls trains with the role of a door", HANA_ROLE, "lambda:InvokeFunction", RELAY)
BEHIND = {CHAT: MAPPED[P], role(UNIT_ACCOUNT, "chat"): MAPPED[UNIT_ACCOUNT]}
for request in [one for one in REQUESTS if one.who in BEHIND]:
    target = request.to or ""
    if not target.startswith(f"{FUNCTION}:"):
        why = "boundary" if request.why == "identity" else request.why
        what = f"{request.what}, with a role of an administrator"
        REQUESTS.append(replace(request, what=what, who=BEHIND[request.who], why=why))
    if request.who == CHAT and target != RELAY and not target.startswith(f"{FUNCTION}:"):
        REQUESTS.append(replace(request, what=f"{request.what}, with the role of a door", who=HANA_ROLE))
for door in (f"{FUNCTION}:taro", f"{FUNCTION}:kei"):
    may(
        "comes through a door with a role that was mapped in the channel",
        MAPPED[P],
        "lambda:InvokeFunction",
        door,
        but("through a door of another function", "boundary", to=arn("lambda", P, "function:shop-api:taro")),
        but("in another region", "boundary", to=arn("lambda", P, "function:temp-access:taro", "eu-west-1")),
        but("in another account", "boundary", to=arn("lambda", STRANGER, "function:temp-access:taro")),
        but("to change it", "boundary", does="lambda:UpdateAlias"),
    )
