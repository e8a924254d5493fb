"""The page with all accounts' dashboards fills each widget as CloudWatch would, and runs nothing that it shows."""

import json
import re
import urllib.error
import urllib.request
from html import unescape

import pytest

from tests.local_cloud.accounts import PRODUCTION
from tests.local_cloud.doors import make
from tools.browser import SUPPORTED, run_in_browser
from tools.layout import REGION, ROOT

FUNCTION, DASHBOARD = "temp-access", "sekisho-board"
BOARD = f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:{FUNCTION}:board"
HOSTILE = """
<style>p { color: red }</style><p id="shown">shown</p>
<script>document.body.classList.add('ran')</script>
<img src="http://127.0.0.1:1/x" onerror="document.body.classList.add('ran')" alt="">
<svg onload="document.body.classList.add('ran')"></svg>
<iframe srcdoc="<script>parent.document.body.classList.add('ran')</script>"></iframe>
<form action="http://127.0.0.1:1/form"><button>Send</button></form>
<a class="btn">Grant</a><cwdb-action action="call" endpoint="ENDPOINT" event="click">{"user":"x"}</cwdb-action>
"""


def widget(endpoint=BOARD, **parameters):
    properties = {"title": "Who <is> in", "endpoint": endpoint, "params": parameters}
    return {"type": "custom", "width": 12, "height": 9, "properties": properties}


WIDGETS = [
    {"type": "metric", "width": 24, "height": 6, "properties": {"title": "Errors"}},
    widget(widget="access"),
    widget(answer="<b>Nobody</b> is in."),
    widget(answer=HOSTILE.replace("ENDPOINT", BOARD)),
    widget(fail=True, answer={"errorType": "Refused", "errorMessage": "no <b>"}),
    widget(endpoint=BOARD.removesuffix(":board")),
    widget(answer={"markdown": "# A <heading>"}),
]


@pytest.fixture(scope="module", autouse=True)
def dashboard(cloud):
    make(cloud, PRODUCTION, FUNCTION, "board")
    body = json.dumps({"widgets": WIDGETS})
    dashboards = cloud.client("cloudwatch", PRODUCTION)
    dashboards.put_dashboard(DashboardName=DASHBOARD, DashboardBody=body)
    yield
    dashboards.delete_dashboards(DashboardNames=[DASHBOARD])
    cloud.client("lambda", PRODUCTION).delete_function(FunctionName=FUNCTION)


def get(cloud, path):
    """Returns the headers and the text of one of the board's documents."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{cloud.url}/_local-cloud/board{path}") as answer:
        return answer.headers, answer.read().decode()


def shown(cloud, number, theme="light"):
    """Returns what the frame of a widget shows."""
    _, text = get(cloud, f"/{theme}/{PRODUCTION}/{DASHBOARD}/{number}")
    return text.partition("<main>")[2].removesuffix("</main></body></html>")


def test_the_page_has_a_frame_for_each_custom_widget(cloud):
    for path, theme in (("", "light"), ("/", "light"), ("/light", "light"), ("/dark", "dark")):
        headers, text = get(cloud, path)
        assert f'class="{theme}"' in text and f"account {PRODUCTION}, dashboard {DASHBOARD}" in text
        assert '<meta http-equiv="refresh" content="60">' in text, "the page stays as it was"
        frames = re.findall(r"<iframe [^>]*>", text)
        address = f"/_local-cloud/board/{theme}/{PRODUCTION}/{DASHBOARD}"
        assert frames == [
            f'<iframe sandbox="allow-popups" title="Who &lt;is&gt; in" src="{address}/{number}">'
            for number in range(1, 7)
        ]
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'; frame-src")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_widget_gets_its_parameters_and_the_context(cloud, theme):
    found = json.loads(unescape(re.sub(r"<.*?>", "", shown(cloud, 1, theme))))
    assert found["invoked"] == BOARD
    assert found["event"].pop("widget") == "access"
    (context,) = found["event"].values()
    assert found["event"] == {"widgetContext": context}
    assert context["theme"] == theme and context["params"] == {"widget": "access"} and context["width"] == 588
    assert context["dashboardName"] == DASHBOARD and context["accountId"] == PRODUCTION


def test_an_answer_is_shown(cloud):
    assert shown(cloud, 2) == "<b>Nobody</b> is in."
    assert "# A &lt;heading&gt;" in shown(cloud, 6)
    assert "Refused: no &lt;b&gt;" in shown(cloud, 4)


def test_the_viewer_may_ask_through_the_board_only(cloud):
    assert "AccessDenied" in shown(cloud, 5)


def test_another_theme_is_refused(cloud):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(cloud, "/blue")
    assert caught.value.code == 400


def test_the_page_stays_what_it_is_with_a_hostile_answer(cloud):
    if not SUPPORTED:
        pytest.skip("npm has the browser for x86_64 only")
    address = f"{cloud.url}/_local-cloud/board/light"
    pages = [{"url": address, "width": 1200}, {"url": f"{address}/{PRODUCTION}/{DASHBOARD}/3", "width": 1200}]
    overview, alone = run_in_browser(ROOT / "tests" / "board" / "look.mjs", pages)
    assert len(overview["frames"]) >= 6
    for page in (overview, alone):
        everything = [page, *page["frames"]]
        assert sum("shown" in one["text"] for one in everything) == 1
        assert [one["ran"] for one in everything] == [0] * len(everything)
        assert not [one for one in page["requests"] if not one.startswith(cloud.url)]
