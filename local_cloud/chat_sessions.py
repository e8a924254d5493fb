"""A stand-in for what Chatbot does with a command in a Slack channel: it acts by a role, below the channel's guardrail.

There is no chat. A path of the local cloud's own returns the keys of the session that Chatbot would use for a member of
a channel: a session of the role that the member chose, or of the channel's role, with the channel's guardrail policies
as its ceiling. It does not show how Slack or Chatbot read a command.
"""

import json
from typing import Any

from ministack.services.cloudformation import provisioners

from local_cloud import chatbot
from local_cloud.iam import service_session
from local_cloud.services import Json

CHANNEL = "AWS::Chatbot::SlackChannelConfiguration"

# The properties of the deployed channels, by their ARNs.
_channels: dict[str, Json] = {}


def install() -> None:
    """Remembers the properties of the channels that are deployed."""
    handlers = provisioners._RESOURCE_HANDLERS[CHANNEL]
    create, update, delete = handlers["create"], handlers["update"], handlers["delete"]

    def created(logical: str, properties: Json, stack: str) -> Any:
        made = create(logical, properties, stack)
        _channels[made[0]] = properties
        return made

    def updated(physical: str, old: Json, new: Json, stack: str) -> Any:
        made = update(physical, old, new, stack)
        _channels[made[0]] = new
        return made

    def deleted(physical: str, properties: Json) -> Any:
        _channels.pop(physical, None)
        return delete(physical, properties)

    provisioners._RESOURCE_HANDLERS[CHANNEL] = {"create": created, "update": updated, "delete": deleted}


def _session(rest: str, body: bytes) -> tuple[int, str]:
    """The keys of a member's session, as the arguments of a client of boto3.

    `rest` is `<account>/<configuration>`, and `body` names the member.
    """
    account, configuration = rest.split("/")
    arn = chatbot.channel(account, configuration)
    if arn not in _channels:
        raise ValueError(f"there is no channel {configuration} in account {account}")
    channel, member = _channels[arn], body.decode()
    role = chatbot.role_of(account, configuration, member) or channel["IamRoleArn"]
    guardrails = channel.get("GuardrailPolicies") or ["arn:aws:iam::aws:policy/AdministratorAccess"]
    keys = service_session(role, "chatbot.amazonaws.com", arn, account, f"{member}-session", guardrails)
    return 200, json.dumps(keys)


# The HTTP path on which a test acts for a member. No AWS client uses this path.
PATHS = {"slack-session": _session}
