"""The dashboards of all accounts as one page, in place of CloudWatch's console.

The custom widgets are filled as CloudWatch fills them: the page calls the real function at the widget's endpoint, with
the theme and the size in `widgetContext`, and with the permissions of bootstrap/board-viewer.json alone. The page is
stricter than CloudWatch. Each answer is in a sandboxed frame of its own, and the Content-Security-Policy allows neither
scripts nor requests, so no script or handler in an answer runs, and `cwdb-action` is an element without a meaning.
Graphs and tables of logs are not drawn.
"""

import json
import time
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import quote, unquote

from botocore.exceptions import ClientError

from local_cloud.services import Credentials, Json, client
from tools.browser.page import THEMES, card, document, page, section
from tools.layout import ACCOUNTS, REGION, ROOT

VIEWER_POLICY = ROOT / "bootstrap" / "board-viewer.json"
REFRESH_SECONDS = 60
# The pixels of CloudWatch's grid, which has 24 columns, in a window that is about 1,200 pixels wide.
COLUMN_PIXELS, ROW_PIXELS = 49, 60
HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'self'; form-action 'none'",
    ),
]


def _page(rest: str, _body: bytes) -> tuple[int, str]:
    """The page of all accounts, or one widget's document. `rest` is `[<theme>[/<account>/<dashboard>/<number>]]`."""
    theme, *widget = rest.rstrip("/").split("/") if rest else [THEMES[0]]
    if theme not in THEMES:
        raise ValueError(f"{theme} is not a theme: one of {', '.join(THEMES)}")
    if not widget:
        return 200, _overview(theme)
    account, dashboard, number = widget
    viewer, name = _viewer(account), unquote(dashboard)
    return 200, document(theme, *_answer(viewer, theme, account, name, int(number)))


# The HTTP path of the page. No AWS client uses this path.
PATHS = {"board": _page}


def _viewer(account: str) -> Credentials:
    """The keys of a viewer: a federated user of the account whose policy is the documented one."""
    root = {"aws_access_key_id": account, "aws_secret_access_key": "root"}
    policy = json.dumps(json.loads(VIEWER_POLICY.read_text()), separators=(",", ":"))
    keys = client("sts", REGION, root).get_federation_token(Name="board-viewer", Policy=policy)["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


def _widgets(viewer: Credentials, dashboard: str) -> list[Json]:
    found = client("cloudwatch", REGION, viewer).get_dashboard(DashboardName=dashboard)
    widgets: list[Json] = json.loads(found["DashboardBody"])["widgets"]
    return widgets


def _answer(viewer: Credentials, theme: str, account: str, dashboard: str, number: int) -> tuple[str, str]:
    """The title of a widget, and the HTML that its function answers."""
    widget = _widgets(viewer, dashboard)[number]
    properties = widget["properties"]
    title = str(properties.get("title", ""))
    payload = json.dumps(_payload(theme, account, dashboard, number, widget)).encode()
    try:
        functions = client("lambda", REGION, viewer)
        got = functions.invoke(FunctionName=properties["endpoint"], Payload=payload)
        answer = json.loads(got["Payload"].read())
    except ClientError as error:
        return title, _text(str(error))
    if "FunctionError" in got:
        return title, _text(f"{answer.get('errorType')}: {answer.get('errorMessage')}")
    if isinstance(answer, str):
        return title, answer
    return title, _text(answer["markdown"] if set(answer) == {"markdown"} else json.dumps(answer, indent=2))


def _payload(theme: str, account: str, dashboard: str, number: int, widget: Json) -> Json:
    """What CloudWatch sends: the widget's parameters, and beside them the context."""
    properties, now = widget["properties"], int(time.time() * 1000)
    parameters = properties.get("params", {})
    start = 12 * 60 * 60 * 1000
    return parameters | {
        "widgetContext": {
            "dashboardName": dashboard,
            "widgetId": f"widget-{number + 1}",
            "accountId": account,
            "locale": "en",
            "timezone": {"label": "UTC", "offsetISO": "+00:00", "offsetInMinutes": 0},
            "period": 300,
            "isAutoPeriod": True,
            "timeRange": {"mode": "relative", "start": now - start, "end": now, "relativeStart": start},
            "theme": theme,
            "linkCharts": True,
            "title": properties.get("title", ""),
            "params": parameters,
            "forms": {"all": {}},
            "width": widget["width"] * COLUMN_PIXELS,
            "height": widget["height"] * ROW_PIXELS,
        }
    }


def _overview(theme: str) -> str:
    """The page of all accounts. Each custom widget is a frame that asks for its own document."""
    now, sections = datetime.now(UTC), []
    for name, account in ACCOUNTS.items():
        viewer = _viewer(account)
        for entry in client("cloudwatch", REGION, viewer).list_dashboards()["DashboardEntries"]:
            dashboard = entry["DashboardName"]
            cards = _cards(theme, account, dashboard, _widgets(viewer, dashboard))
            sections.append(section(name, f"account {account}, dashboard {dashboard}", cards))
    links = " · ".join(f'<a href="/_local-cloud/board/{one}">{one}</a>' for one in THEMES)
    return page(
        theme,
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">',
        f"<h1>The board of the local cloud</h1><p>{now:%Y-%m-%d %H:%M:%S} UTC, refreshed every minute · {links}</p>",
        sections or ["<p>No account has a dashboard yet.</p>"],
    )


def _cards(theme: str, account: str, dashboard: str, widgets: list[Json]) -> list[str]:
    found = []
    for number, widget in enumerate(widgets):
        if widget["type"] == "custom":
            address = f"/_local-cloud/board/{theme}/{account}/{quote(dashboard, safe='')}/{number}"
            columns, pixels = int(widget["width"]), int(widget["height"]) * ROW_PIXELS
            found.append(card(str(widget["properties"].get("title", "")), columns, pixels, f'src="{address}"'))
    return found


def _text(text: Any) -> str:
    return f'<p style="white-space: pre-wrap; overflow-wrap: anywhere">{escape(str(text))}</p>'
