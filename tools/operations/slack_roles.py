"""The roles that members of Slack channels have chosen for themselves in Chatbot.

Only a member can map a role, in Slack. An administrator can list the mappings, and delete them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

# The API of Chatbot has endpoints in a few regions. Each endpoint answers for the whole account, so one is enough.
CHATBOT_REGION = "us-east-2"


class Mapping(NamedTuple):
    """A member of a Slack workspace, and the role with which Chatbot acts for the member in one channel."""

    role: str
    user: str
    team: str
    channel: str

    def __str__(self) -> str:
        return f"{self.user} of workspace {self.team} in {self.channel.rpartition('/')[2]}"


class SlackRoles:
    """The mappings of one account. `client` makes a client of a service in a region."""

    def __init__(self, client: Callable[[str, str], Any]) -> None:
        self._chatbot = client("chatbot", CHATBOT_REGION)

    def mappings(self) -> list[Mapping]:
        """All mappings of the account, in the order of their roles."""
        pages = self._chatbot.get_paginator("describe_slack_user_identities").paginate()
        return sorted(
            Mapping(one["IamRoleArn"], one["SlackUserId"], one["SlackTeamId"], one["ChatConfigurationArn"])
            for page in pages
            for one in page["SlackUserIdentities"]
        )

    def unmap(self, mapping: Mapping) -> None:
        """Deletes a mapping. The member can choose a role again, but not one that is gone."""
        self._chatbot.delete_slack_user_identity(
            ChatConfigurationArn=mapping.channel, SlackTeamId=mapping.team, SlackUserId=mapping.user
        )
