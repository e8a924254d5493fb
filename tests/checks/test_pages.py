"""Pages have the same commands, tables and headings in both languages, name files, headings and numbers that are there,
and have no loop that waits forever."""

import re
import unicodedata
import urllib.parse
from collections import Counter

import pytest
from defusedxml import ElementTree
from samcli.yamlhelper import yaml_parse

from tests.pages import Page
from tools.layout import ROOT

SVG = "{http://www.w3.org/2000/svg}"
FROM = ROOT / "docs" / "from"
PAGES = sorted(page for folder in ("", "docs/", "docs/from/", "examples/*/") for page in ROOT.glob(f"{folder}*.md"))
# The changelog is about earlier versions, too.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
RUST = [f"/{file.relative_to(ROOT)}" for top in ("functions", "shared", "tests") for file in (ROOT / top).rglob("*.rs")]


def headings(text):
    """The anchors of the headings in a page, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text):
    """The targets of the links and pictures in a page, without those to other sites."""
    found = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"', text)
    return [link or other for link, other in found if not (link or other).startswith(("http:", "https:", "mailto:"))]


def blocks(text):
    """The blocks of code in a page, without comments, which are in the language of the page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s*#[^\n]*", "", code) for kind, code in found if kind != "mermaid"]


def shape(text):
    """The levels of a page's headings, and the number of columns of each row of its tables, in their order."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(?:#+ |\|.*\|$)", without_code, re.MULTILINE)
    return [line.count("|") or line for line in lines]


@pytest.mark.parametrize(
    "english", sorted(set(FROM.glob("*.md")) - set(FROM.glob("*.ja.md"))), ids=lambda path: path.stem
)
def test_both_languages_have_the_same_commands_and_outputs(english):
    japanese = english.with_suffix(".ja.md")
    assert Page(japanese).commands == Page(english).commands
    assert Page(japanese).answers == Page(english).answers
    assert shape(japanese.read_text()) == shape(english.read_text())
    assert f"]({japanese.name})" in english.read_text() and f"]({english.name})" in japanese.read_text()


def test_both_readmes_have_the_same_blocks_headings_and_tables():
    english, japanese = ((ROOT / name).read_text() for name in ("README.md", "README.ja.md"))
    assert blocks(japanese) == blocks(english)
    assert shape(japanese) == shape(english)


def commands(path):
    """The commands in the blocks of a page."""
    return "".join(re.findall(r"^ *```sh\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: path.name)
def test_no_command_waits_forever(path):
    assert not re.findall(r"^ *(?:until|while !|while \[).*", commands(path), re.MULTILINE)


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: path.name)
def test_the_make_commands_that_a_page_names_exist(path):
    named = re.findall(r"`make\s+([a-z-]+)", path.read_text())
    named += re.findall(r"^ *make ([a-z-]+)", commands(path), re.MULTILINE)
    assert set(named) <= set(re.findall(r"^([a-z-]+): ##", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: path.name)
def test_the_rust_files_that_a_page_names_exist(path):
    named = set(re.findall(r"`([\w/.-]+\.rs)`", path.read_text()))
    assert not [name for name in named if not any(file.endswith(f"/{name}") for file in RUST)]


def test_the_costs_count_the_alarms_of_the_template():
    resources = yaml_parse((ROOT / "template.yaml").read_text())["Resources"].values()
    alarms = Counter(one["Condition"] for one in resources if one["Type"] == "AWS::CloudWatch::Alarm")
    (row,) = re.findall(r"^\| alarms \((.*?)\)", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    assert row == "{Repositories} for repositories, {Pipelines} for pipelines, {Access} for access".format_map(alarms)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    broken = []
    for link in links(path.read_text()):
        file, _, heading = urllib.parse.unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (heading and heading not in headings(target.read_text())):
            broken.append(link)
    assert not broken


def test_guided_mode_asks_first_for_the_parameters_that_the_page_answers():
    _, found, rest = (ROOT / "docs" / "deploy.md").read_text().partition("### Guided mode\n")
    questions = re.findall(r"^\| (`.+?) \|", rest.partition("\n### ")[0], re.MULTILINE)
    parameters = list(yaml_parse((ROOT / "template.yaml").read_text())["Parameters"])
    answered = [name for cell in questions for name in re.findall(r"`(\w+)`", cell) if name in parameters]
    assert found and answered == parameters[: len(answered)] and len(answered) == 12


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


# The widths of a character, as parts of the font's size, in the widest fonts in common use (DejaVu).
EM = {"code": 0.61, "strong": 0.74, "": 0.64}
SIZES = {"small": 13, "code": 13, "strong": 16, "": 15}


def width_of(text):
    """The width of a text in the picture, at most."""
    total = 0.0
    for part, kinds in [(text, text.get("class", "")), *((one, one.get("class", "")) for one in text)]:
        last = kinds.split()[-1] if kinds else ""
        words = (part.text or "") + "".join(one.tail or "" for one in part)
        em = EM.get(last, EM[""])
        wide = sum(unicodedata.east_asian_width(one) in "WF" for one in words)
        total += SIZES[last] * (wide + (len(words) - wide) * em)
    return total


@pytest.mark.parametrize(
    "picture", sorted((ROOT / "docs" / "pictures").glob("overview*.svg")), ids=lambda file: file.name
)
def test_every_text_of_the_picture_stays_in_its_box(picture):
    svg = ElementTree.parse(picture).getroot()
    boxes = [[float(box.get(name)) for name in ("x", "y", "width", "height")] for box in svg.iter(f"{SVG}rect")]
    for text in svg.iter(f"{SVG}text"):
        x, y, width = float(text.get("x")), float(text.get("y")), width_of(text)
        left = x - width / 2 if text.get("text-anchor") == "middle" else x
        around = [box for box in boxes if box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]]
        box = min(around, key=lambda one: one[2])
        assert box[0] + 4 <= left and left + width <= box[0] + box[2] - 4, "".join(text.itertext())
