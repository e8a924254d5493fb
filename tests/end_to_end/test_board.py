"""The board of the deployed functions, as the local cloud fills it and as a browser shows it."""

import pytest

from tools.browser import SUPPORTED, run_in_browser
from tools.layout import ACCOUNTS, ROOT
from tools.local_stack import job

LOOK = ROOT / "tests" / "board" / "look.mjs"
# The accounts with the widgets of their dashboards, in the order of the page.
WIDGETS = [
    ("repository", "trains"),
    *((account, widget) for account in ("test", "production") for widget in ("access", "pipelines", "artifacts")),
]
REASON = "<img src=x onerror=\"document.body.classList.add('ran')\"> \u202eOPS-7"
USER = "prd-board"

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="npm has the browser for x86_64 only")


@pytest.fixture(scope="module")
def frames(stack, user):
    """What the browser shows in the frame of each widget, while somebody has access for a hostile reason."""
    user(USER)
    job.invoke(stack, "production", "temp-access", {"user": USER, "minutes": 5, "reason": REASON})
    pages = [{"url": f"{stack.board}/{theme}", "width": 1200} for theme in ("light", "dark")]
    yield [page["frames"] for page in run_in_browser(LOOK, pages)]
    job.invoke(stack, "production", "temp-access", {"action": "revoke", "user": USER})


def test_each_function_fills_its_widget(frames):
    assert list(dict(WIDGETS)) == list(ACCOUNTS)
    for found in frames:
        assert len(found) == len(WIDGETS)
        for widget, frame in zip(WIDGETS, found, strict=True):
            assert "As of 20" in frame["text"], (widget, frame["text"])
            assert frame["overflow"] == [], widget
            assert frame["elements"] == frame["attributes"] == [], widget
            assert frame["ran"] == 0


def test_a_reason_is_shown_as_it_was_typed(frames):
    for found in frames:
        text = found[WIDGETS.index(("production", "access"))]["text"]
        assert USER in text
        assert "<img src=x" in text and "OPS-7" in text
        assert "\u202e" not in text
