"""Requests of somebody who has only bootstrap/board-viewer.json: the viewer reads the dashboard, and does nothing else.

The policy names no account and no region, so that one document serves all accounts. In another account, that account's
own policies decide.
"""

import json

from tests.iam.requests import ALL, P, arn, but, may, never, role
from tests.template.policies import Policy
from tools.layout import REGION, ROOT

VIEWER = role(ALL, "board-viewer")
POLICY = Policy("identity", VIEWER, json.loads((ROOT / "bootstrap" / "board-viewer.json").read_text()))

ANY = ["account", "region"]
for name in ("sekisho-event-relay", "sekisho-pipeline-starter", "sekisho-artifact-checker", "temp-access"):
    function = arn("lambda", ALL, f"function:{name}")
    may(
        "asks a function through the board",
        VIEWER,
        "lambda:InvokeFunction",
        f"{function}:board",
        *(
            but(what, "identity", to=to)
            for what, to in (
                ("without the alias", function),
                ("at the latest version", f"{function}:$LATEST"),
                ("at a published version", f"{function}:1"),
                ("at an alias whose name begins the same", f"{function}:board-2"),
                ("at somebody's door", f"{function}:hana"),
                ("at the hub", f"{function}:hub"),
                ("a function whose name begins the same", f"{function}-x:board"),
                ("the board of another function", arn("lambda", ALL, "function:shop-api:board")),
            )
        ),
        anywhere=ANY,
    )
    never(
        "changes nothing about the board",
        VIEWER,
        "lambda:UpdateAlias lambda:DeleteAlias lambda:AddPermission lambda:UpdateFunctionCode",
        function,
    )
    group = arn("logs", ALL, f"log-group:/aws/lambda/{name}")
    may(
        "sees the decisions",
        VIEWER,
        "logs:StartQuery logs:GetQueryResults",
        group,
        but("in the log of an application", "identity", to=arn("logs", ALL, "log-group:/aws/lambda/shop-api")),
        but("of a function whose name begins the same", "identity", to=f"{group}-x"),
        but("by an open-ended read of the log", "identity", does="logs:FilterLogEvents"),
        anywhere=ANY,
    )
    may(
        "sees the decisions in each stream",
        VIEWER,
        "logs:StartQuery",
        f"{group}:log-stream:one",
        but("of a function whose name begins the same", "identity", to=f"{group}-x:log-stream:one"),
        anywhere=ANY,
    )
dashboard = f"arn:aws:cloudwatch::{ALL}:dashboard/sekisho-{REGION}"
may(
    "opens the dashboard",
    VIEWER,
    "cloudwatch:GetDashboard",
    dashboard,
    but("of somebody else", "identity", to=f"arn:aws:cloudwatch::{ALL}:dashboard/orders"),
    anywhere=["account"],
)
may("sees the graphs", VIEWER, "cloudwatch:GetMetricData cloudwatch:ListDashboards", None)
never("does not change the dashboard", VIEWER, "cloudwatch:PutDashboard cloudwatch:DeleteDashboards", dashboard)
never("reads no ledger", VIEWER, "dynamodb:GetItem dynamodb:Query", arn("dynamodb", ALL, "table/sekisho-ledger"))
never("asks for no access elsewhere", VIEWER, "lambda:InvokeFunction", arn("lambda", P, "function:temp-access:hub"))
