"""A stand-in for Chatbot. Its resources can be deployed, but there is no chat: tests invoke the function directly."""

from typing import Any

from ministack.core.responses import get_account_id
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json

# For each resource type: the property that holds the resource's name, and the part of the ARN before that name.
NAMES = {
    "AWS::Chatbot::SlackChannelConfiguration": ("ConfigurationName", "chat-configuration/slack-channel"),
    "AWS::Chatbot::CustomAction": ("ActionName", "custom-action"),
}


def install() -> None:
    """Adds the resource types to CloudFormation."""
    for kind, (name, path) in NAMES.items():
        provisioners._RESOURCE_HANDLERS[kind] = _handlers(name, path)


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
