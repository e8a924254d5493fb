"""The dashboard: the widgets of the account's functions first, each through the alias `board`, and the graphs below."""

import json

import pytest

from tests.template import deployed

# The widgets that functions answer, in the order of the dashboard, each with its account's duty.
WIDGETS = [
    ("HostsRepositories", "trains", "sekisho-event-relay"),
    ("GrantsAccess", "access", "temp-access"),
    ("HostsPipelines", "pipelines", "sekisho-pipeline-starter"),
    ("HostsPipelines", "artifacts", "sekisho-artifact-checker"),
]


@pytest.mark.parametrize("account", deployed.ACCOUNTS)
def test_the_widgets_call_the_boards_of_the_functions(cloud_of_all, account):
    described = cloud_of_all.client(account, "cloudformation").describe_stacks(StackName=deployed.STACK)["Stacks"][0]
    (url,) = [one["OutputValue"] for one in described["Outputs"] if one["OutputKey"] == "BoardUrl"]
    console = f"https://{deployed.REGION}.console.aws.amazon.com/cloudwatch/home?region={deployed.REGION}"
    assert url == f"{console}#dashboards/dashboard/sekisho-{deployed.REGION}"
    dashboards = cloud_of_all.client(account, "cloudwatch")
    dashboard = dashboards.get_dashboard(DashboardName=url.rpartition("/")[2])
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]

    expected = [(widget, function) for duty, widget, function in WIDGETS if duty in deployed.ACCOUNTS[account]]
    own = widgets[: len(expected)]
    functions = f"arn:aws:lambda:{deployed.REGION}:{account}:function:"
    assert [one["properties"]["params"] for one in own] == [{"widget": widget} for widget, _ in expected]
    assert [one["properties"]["endpoint"] for one in own] == [f"{functions}{name}:board" for _, name in expected]
    assert {one["properties"]["updateOn"]["refresh"] for one in own} == {True}
    assert [one["type"] for one in widgets].count("custom") == len(own)
    aliases = cloud_of_all.client(account, "lambda")
    for one in own:
        assert aliases.get_function(FunctionName=one["properties"]["endpoint"])
