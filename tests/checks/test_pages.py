"""The pages in docs/from have the same commands in both languages, and their links and those of the READMEs lead
to files and headings that exist."""

import re
import urllib.parse

import pytest
from defusedxml import ElementTree

from tests.pages import Page
from tools.layout import ROOT

SVG = "{http://www.w3.org/2000/svg}"
FROM = ROOT / "docs" / "from"
PAGES = sorted([*FROM.glob("*.md"), ROOT / "README.md", ROOT / "README.ja.md", ROOT / "docs" / "deploy.md"])


def headings(text):
    """The anchors of the headings in a page, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text):
    """The targets of the links and pictures in a page, without those to other sites."""
    found = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"', text)
    return [link or other for link, other in found if not (link or other).startswith(("http:", "https:", "mailto:"))]


@pytest.mark.parametrize(
    "english", sorted(set(FROM.glob("*.md")) - set(FROM.glob("*.ja.md"))), ids=lambda path: path.stem
)
def test_both_languages_have_the_same_commands_and_outputs(english):
    japanese = english.with_suffix(".ja.md")
    assert Page(japanese).commands == Page(english).commands
    assert Page(japanese).answers == Page(english).answers
    assert f"]({japanese.name})" in english.read_text() and f"]({english.name})" in japanese.read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    broken = []
    for link in links(path.read_text()):
        file, _, heading = urllib.parse.unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (heading and heading not in headings(target.read_text())):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_the_first_screen_has_the_picture_in_its_language(readme):
    text = (ROOT / readme).read_text()
    picture = "docs/pictures/overview.ja.svg" if ".ja." in readme else "docs/pictures/overview.svg"
    assert f"]({picture})" in text.partition("\n## ")[0]
    svg = ElementTree.parse(ROOT / picture).getroot()
    assert svg.tag == f"{SVG}svg"
    words = {one.text for one in svg.iter(f"{SVG}tspan")} | {one.text for one in svg.iter(f"{SVG}text")}
    assert {"make demo", "$ git push origin main", '{"user":"prd-user","minutes":60}'} <= words
    # Without text, the picture must say the same to a screen reader; and it has colors for both themes.
    assert all(svg.findtext(f"{SVG}{name}") for name in ("title", "desc"))
    assert "prefers-color-scheme: dark" in (svg.findtext(f"{SVG}style") or "")
