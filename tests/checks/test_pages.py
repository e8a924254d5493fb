"""The pages in docs/from have the same commands in both languages, and their links and those of the READMEs lead
to files and headings that exist."""

import re
import urllib.parse

import pytest

from tests.pages import Page
from tools.layout import ROOT

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
