"""A channel in Microsoft Teams takes the place of the one in Slack, with the same role, guardrail and actions."""

import zlib

import pytest
from botocore.exceptions import ClientError

from tests.template import deployed
from tools.layout import REGION

SLACK = {"SlackWorkspaceId": "T07EA123LEP", "SlackChannelId": "C07EZ1ABC23"}
DUTIES = {"HostsRepositories": "true", "GrantsAccess": "true"}
CHANNELS = {"AWS::Chatbot::SlackChannelConfiguration", "AWS::Chatbot::MicrosoftTeamsChannelConfiguration"}
# The properties that name the channel itself.
NAMES = {"SlackWorkspaceId", "SlackChannelId", "TeamsTenantId", "TeamId", "TeamsChannelId"}


@pytest.fixture(scope="module")
def cloud():
    with deployed.cloud() as cloud:
        yield cloud


def kinds(cloud, account):
    """Returns the types of the stack's resources by logical id."""
    resources = cloud.client(account, "cloudformation").describe_stack_resources(StackName="sekisho")["StackResources"]
    return {one["LogicalResourceId"]: one["ResourceType"] for one in resources}


def trusted(cloud, account):
    """Returns the ARN for which Chatbot may assume the channel's role."""
    role = cloud.client(account, "iam").get_role(RoleName=f"sekisho-chat-{REGION}")["Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    return statement["Condition"]["ArnLikeIfExists"]["aws:SourceArn"]


def test_both_channels_have_the_same_properties():
    resources = deployed.expanded()["Resources"]
    slack, teams = (resources[name]["Properties"] for name in ("ChatChannel", "TeamsChannel"))
    assert {key: one for key, one in teams.items() if key not in NAMES} == {
        key: one for key, one in slack.items() if key not in NAMES
    }
    assert teams["GuardrailPolicies"] == [{"Ref": "ChatGuardrail"}]


def test_teams_takes_the_place_of_slack(cloud):
    account = "400000000031"
    cloud.deploy(account, DUTIES | SLACK)
    with_slack = kinds(cloud, account)
    assert trusted(cloud, account) == f"arn:aws:chatbot::{account}:chat-configuration/slack-channel/sekisho-*"
    cloud.update(account, DUTIES | deployed.TEAMS, deployed.expanded())
    with_teams = kinds(cloud, account)
    assert trusted(cloud, account) == f"arn:aws:chatbot::{account}:chat-configuration/microsoft-teams-channel/sekisho-*"
    assert set(with_slack) - set(with_teams) == {"ChatChannel"}
    assert set(with_teams) - set(with_slack) == {"TeamsChannel"}
    assert {with_slack["ChatChannel"], with_teams["TeamsChannel"]} == CHANNELS


def test_without_a_channel_nothing_of_chat_exists(cloud):
    account = "400000000032"
    cloud.deploy(account, DUTIES)
    assert {name for name, kind in kinds(cloud, account).items() if "Chat" in name or "::Chatbot::" in kind} == set()


@pytest.mark.parametrize(
    ("parameters", "refused_by"),
    [
        ({"TeamsChannelId": ""}, "rule TeamsIsNamedWhole"),
        ({"TeamsTeamId": ""}, "rule TeamsIsNamedWhole"),
        ({"TeamsTenantId": ""}, "rule TeamsIsNamedWhole"),
        (SLACK, "rule TeamsIsNamedWhole failed: Notices go to one channel"),
        ({"ApproverSlackChannelId": "C07EZ1ABC24"}, "rule ApproversNeedTheirAccount"),
        ({"TeamsTeamId": "shop"}, "Parameter 'TeamsTeamId'"),
        ({"TeamsTenantId": "shop"}, "Parameter 'TeamsTenantId'"),
        # The id without the encoding of the link.
        ({"TeamsChannelId": "19:ab12cd34@thread.tacv2"}, "Parameter 'TeamsChannelId'"),
    ],
)
def test_wrong_parameters_are_refused(cloud, parameters, refused_by):
    account = f"6{zlib.crc32(str(parameters).encode()) % 10**11:011}"
    with pytest.raises(ClientError, match=refused_by):
        cloud.deploy(account, DUTIES | deployed.TEAMS | parameters)
