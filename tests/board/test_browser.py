"""Every widget in a real browser: readable in both themes, narrow and wide, and nothing in it acts or loads anything.

The HTML in this folder is what the functions answer; their own tests keep it up to date. The cases are an empty ledger,
an ordinary one, a huge one, and one in which strangers wrote every value that they can set.
"""

import itertools
import re
from pathlib import Path

import pytest

from tools.browser import SUPPORTED, pictures, run_in_browser
from tools.browser.page import THEMES, document

FOLDER = Path(__file__).parent
WIDGETS = ("trains", "pipelines", "access", "artifacts")
CASES = ("empty", "ordinary", "huge", "hostile")
NARROW, WIDE = 400, 1200
PAGES = list(itertools.product(CASES, THEMES))

# Each line breaks one rule.
BAD = """
<div style="width: 500px">wide</div><div style="width: 1300px">very_wide</div>
<div style="width: 90px; overflow: hidden">a_word_that_is_cut_off</div>
<div style="position: absolute; left: -50px">left</div>
<p style="color: #aaa">pale</p>
<button onclick="x()">Go</button><svg onload="document.body.classList.add('ran')"></svg><script></script>
<a href="javascript:x()">link</a><form action="/x"></form><cwdb-action>act</cwdb-action>
<img src="http://127.0.0.1:1/x" alt=""><p style="background: url(/x)">loads</p><style>@import "x";</style>
<input>
"""

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="npm has the browser for x86_64 only")


def look(pages: list[dict]) -> list[dict]:
    found: list[dict] = run_in_browser(FOLDER / "look.mjs", [{"axe": True, **page} for page in pages])
    return found


@pytest.fixture(scope="module", params=WIDGETS)
def looked(request) -> dict[tuple[str, str], dict]:
    """What the browser found on each page of a widget."""
    pages = []
    for case, theme in PAGES:
        html = document(theme, request.param, pictures.widget(request.param, case, theme))
        pages.append({"html": html, "width": NARROW, "more": [WIDE]})
    return dict(zip(PAGES, look(pages), strict=True))


def test_the_widgets_are_these():
    assert sorted(file.stem for file in FOLDER.glob("*.html")) == sorted(
        f"{widget}-{case}" for widget in WIDGETS for case in CASES
    )


@pytest.mark.parametrize("page", PAGES, ids="-".join)
def test_a_widget_is_readable_and_inert(looked, page):
    found = looked[page]
    assert found["overflow"] == []
    assert found["axe"] == []
    assert found["elements"] == []
    assert found["attributes"] == []
    assert found["requests"] == []
    assert found["frames"] == []
    assert len(found["text"].split()) > 3, "the widget shows nothing"


def test_what_a_stranger_wrote_is_text(looked):
    """Markup in a value is shown as it was written, and no character in a value turns the text around it."""
    found = looked["hostile", "light"]
    assert "<script>" in found["text"], "the hostile values have no markup, or it was not shown as text"
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u0000-\u0008]", found["text"])


def test_each_broken_rule_is_found():
    (found,) = look([{"html": document("light", "bad", BAD), "width": NARROW, "more": [WIDE]}])
    for view, parts in (("view 1", ("wide", "a_word_that_is_cut_off", "left")), ("view 2", ("very_wide",))):
        for part in parts:
            assert any(part in one and one.startswith(view) for one in found["overflow"]), part
    assert [one for one in found["axe"] if one.startswith("color-contrast:")]
    assert [one for one in found["axe"] if one.startswith("label:")]
    assert sorted(found["elements"]) == ["button", "cwdb-action", "form", "input", "script"]
    assert sorted(one.partition("=")[0] for one in found["attributes"]) == [
        "a style that loads something",
        "action",
        "href",
        "onclick",
        "onload",
        "src",
        "style",
    ]
    assert found["ran"] and found["requests"]
