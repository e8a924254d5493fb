"""A stand-in for Chatbot. Its resources can be deployed, but there is no chat: tests invoke the function directly.

The members of Slack channels choose their roles in Slack, so a path of the local cloud's own stands for that. As on
AWS, the API lists and deletes what they chose.
"""

import json
from typing import Any

from ministack import app
from ministack.core import iam_actions, router
from ministack.core.responses import error_response_json, get_account_id, json_response
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json

# For each resource type: the property that holds the resource's name, and the part of the ARN before that name.
NAMES = {
    "AWS::Chatbot::SlackChannelConfiguration": ("ConfigurationName", "chat-configuration/slack-channel"),
    "AWS::Chatbot::MicrosoftTeamsChannelConfiguration": (
        "ConfigurationName",
        "chat-configuration/microsoft-teams-channel",
    ),
    "AWS::Chatbot::CustomAction": ("ActionName", "custom-action"),
}
WORKSPACE = "T0LOCAL"

# The roles that members chose, by the account, the channel's configuration and the member.
_chosen: dict[tuple[str, str, str], str] = {}


def install() -> None:
    """Adds the resource types to CloudFormation, and the operations on the roles of members."""
    for kind, (name, path) in NAMES.items():
        provisioners._RESOURCE_HANDLERS[kind] = _handlers(name, path)
    router.SERVICE_PATTERNS["chatbot"] = {"host_patterns": [r"chatbot\."], "credential_scope": "chatbot"}
    iam_actions.SERVICE_TO_IAM_NAMESPACE["chatbot"] = "chatbot"
    app.SERVICE_HANDLERS["chatbot"] = _handle
    others = iam_actions.extract_iam_action

    def action(service: str, method: str, path: str, headers: Json, body: bytes, query: Json) -> str | None:
        if service == "chatbot" and path in _OPERATIONS:
            return f"chatbot:{_OPERATIONS[path][0]}"
        found: str | None = others(service, method, path, headers, body, query)
        return found

    iam_actions.extract_iam_action = action


def _choose(rest: str, body: bytes) -> tuple[int, str]:
    """A member of a channel chooses a role. `rest` is `<account>/<configuration>/<member>`, and `body` is the role."""
    account, configuration, member = rest.split("/")
    _chosen[account, channel(account, configuration), member] = body.decode()
    return 200, "chosen\n"


def channel(account: str, configuration: str) -> str:
    """The ARN of a channel's configuration."""
    return f"arn:aws:chatbot::{account}:chat-configuration/slack-channel/{configuration}"


def role_of(account: str, configuration: str, member: str) -> str | None:
    """The role that a member chose in a channel."""
    return _chosen.get((account, channel(account, configuration), member))


# The HTTP path on which a test chooses a role. No AWS client uses this path.
PATHS = {"slack-role": _choose}


def _describe(_request: Json) -> Json:
    return {
        "SlackUserIdentities": [
            {
                "IamRoleArn": role,
                "ChatConfigurationArn": configuration,
                "SlackTeamId": WORKSPACE,
                "SlackUserId": member,
            }
            for (account, configuration, member), role in _chosen.items()
            if account == get_account_id()
        ]
    }


def _delete(request: Json) -> Json:
    _chosen.pop((get_account_id(), request["ChatConfigurationArn"], request["SlackUserId"]), None)
    return {}


_OPERATIONS = {
    "/describe-slack-user-identities": ("DescribeSlackUserIdentities", _describe),
    "/delete-slack-user-identity": ("DeleteSlackUserIdentity", _delete),
}


async def _handle(_method: str, path: str, _headers: Json, body: bytes, _query: Json) -> Any:
    if path not in _OPERATIONS:
        return error_response_json("UnknownOperationException", "the local chatbot does not know this operation")
    return json_response(_OPERATIONS[path][1](json.loads(body or b"{}")))


def _handlers(name: str, path: str) -> Json:
    def create(properties: Json) -> tuple[str, Json]:
        arn = f"arn:aws:chatbot::{get_account_id()}:{path}/{properties[name]}"
        return arn, {"Arn": arn, "CustomActionArn": arn}

    def delete(_physical: str, _properties: Json) -> Any:
        return None

    return {
        "create": lambda _logical, properties, _stack: create(properties),
        "update": lambda _physical, _old, properties, _stack: create(properties),
        "delete": delete,
    }
