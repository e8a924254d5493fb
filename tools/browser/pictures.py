"""`make pictures` draws the pictures of the documentation again.

They show the board with the widgets of tests/board, which the functions answer for an ordinary ledger. So the same
sources always give the same pictures.
"""

from html import escape

from tools.browser import PICTURE, run_in_browser
from tools.browser.page import THEMES, card, document, page, section
from tools.failure import Failure
from tools.layout import ROOT

FOLDER = ROOT / "docs" / "pictures"
WIDGETS = ROOT / "tests" / "board"
# The widgets by account, each with the columns of the grid that it has in template.yaml.
ACCOUNTS = {
    "Repository account": [("Trains", 24)],
    "Production account": [("Access", 24), ("Pipelines", 12), ("Artifacts", 12)],
}
WIDTH = 1000


def draw_pictures() -> None:
    """Runs `make pictures`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    shots = []
    for theme in THEMES:
        file = FOLDER / f"board-{theme}.png"
        shots.append({"html": board(theme), "width": WIDTH, "file": str(file)})
        print(file.relative_to(ROOT))
    run_in_browser(PICTURE, shots)


def board(theme: str) -> str:
    """The page with the widgets of all functions."""
    sections = [
        section(account, "", [_card(theme, title, columns) for title, columns in widgets])
        for account, widgets in ACCOUNTS.items()
    ]
    return page(theme, "", "", sections)


def _card(theme: str, title: str, columns: int) -> str:
    html = widget(title.lower(), "ordinary", theme)
    return card(title, columns, 0, f'srcdoc="{escape(document(theme, title, html))}"')


def widget(name: str, case: str, theme: str) -> str:
    """What a function answers in a case of the tests. The themes differ in one class."""
    light, other = 'class="sekisho light', f'class="sekisho {theme}'
    html = (WIDGETS / f"{name}-{case}.html").read_text()
    if html.count(light) != 1:
        raise Failure(f"{name}-{case}.html does not have `{light}` once, by which the themes differ.")
    return html.replace(light, other)
