"""Chatbot, as far as a template goes: its resources deploy, and nobody chats. An invoke stands for what it does."""

from ministack.core.responses import get_account_id
from ministack.services.cloudformation import provisioners

# Each type's property with its name, and what its ARN says it is.
NAMES = {
    "AWS::Chatbot::SlackChannelConfiguration": ("ConfigurationName", "chat-configuration/slack-channel"),
    "AWS::Chatbot::CustomAction": ("ActionName", "custom-action"),
}


def install() -> None:
    for kind, (name, path) in NAMES.items():

        def made(properties, name=name, path=path):
            arn = f"arn:aws:chatbot::{get_account_id()}:{path}/{properties[name]}"
            return arn, {"Arn": arn, "CustomActionArn": arn}

        provisioners._RESOURCE_HANDLERS[kind] = {
            "create": lambda _logical, properties, _stack, made=made: made(properties),
            "update": lambda _physical, _old, properties, _stack, made=made: made(properties),
            "delete": lambda _physical, _properties: None,
        }
