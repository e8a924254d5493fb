"""What Chatbot may do for a member of a channel: what both the member's role and the channel's guardrail allow."""

import json
import urllib.error

import pytest

from tests.local_cloud.accounts import PRODUCTION, TEST, allow, document
from tests.local_cloud.doors import invoked, is_denied, make

CHATBOT = {"Service": "chatbot.amazonaws.com"}


@pytest.fixture(scope="module")
def channel(cloud):
    """A channel whose role may invoke one function, below a guardrail that allows its aliases, too."""
    function = make(cloud, PRODUCTION, "asked", "hana", "board")
    guardrail = cloud.client("iam", PRODUCTION).create_policy(
        PolicyName="guardrail",
        PolicyDocument=document([allow("lambda:InvokeFunction", [function, f"{function}:hana"])]),
    )["Policy"]["Arn"]
    role = cloud.role(PRODUCTION, "channel", CHATBOT, [allow("lambda:InvokeFunction", function)])
    properties = {
        "ConfigurationName": "asked",
        "SlackWorkspaceId": "T0LOCAL",
        "SlackChannelId": "C0LOCAL",
        "IamRoleArn": role,
        "GuardrailPolicies": [guardrail],
    }
    resource = {"Type": "AWS::Chatbot::SlackChannelConfiguration", "Properties": properties}
    assert cloud.stack(PRODUCTION, "channel", {"Channel": resource}) == "CREATE_COMPLETE"
    return function


def acts(cloud, member: str, account: str = PRODUCTION):
    keys = json.loads(cloud.post(f"slack-session/{account}/asked", member))
    return cloud.client("lambda", account, keys)


def test_a_member_without_a_role_acts_by_the_role_of_the_channel(cloud, channel):
    client = acts(cloud, "U1")
    assert invoked(client, channel) == channel
    assert is_denied(client, f"{channel}:hana")


def test_a_member_acts_by_the_chosen_role_and_never_beyond_the_guardrail(cloud, channel):
    everything = cloud.role(PRODUCTION, "chosen", CHATBOT, [allow("lambda:*")])
    cloud.post(f"slack-role/{PRODUCTION}/asked/U2", everything)
    client = acts(cloud, "U2")
    assert invoked(client, channel) == channel
    assert invoked(client, f"{channel}:hana") == f"{channel}:hana"
    assert is_denied(client, f"{channel}:board"), "the guardrail does not name this alias"
    assert is_denied(acts(cloud, "U1"), f"{channel}:hana"), "the role of another member"


@pytest.mark.usefixtures("channel")
def test_a_role_that_does_not_trust_chatbot_and_an_unknown_channel_are_refused(cloud):
    foreign = cloud.role(PRODUCTION, "foreign", {"Service": "lambda.amazonaws.com"}, [allow("lambda:*")])
    cloud.post(f"slack-role/{PRODUCTION}/asked/U3", foreign)
    for account, member in ((PRODUCTION, "U3"), (TEST, "U1")):
        with pytest.raises(urllib.error.HTTPError):
            acts(cloud, member, account)
