"""The HTML around the widgets of the board: a card with a frame for each widget, and the document in a frame."""

from collections.abc import Sequence
from html import escape

# The colors are those of CloudWatch's console, behind and around a widget.
THEMES = ("light", "dark")
COLORS = """
:root { color-scheme: light; --back: #f4f4f4; --card: #fff; --text: #16191f; --muted: #545b64; --line: #d5dbdb }
:root.dark { color-scheme: dark; --back: #0f1b2a; --card: #161d26; --text: #eaeded; --muted: #a3acb5; --line: #414d5c }
body { margin: 0; color: var(--text); font: 14px/1.5 "Open Sans", sans-serif }
"""
PAGE = """
body { padding: 16px; background: var(--back) }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline }
h1 { font-size: 20px; margin: 0 } h2 { font-size: 17px; margin: 24px 0 8px } h3 { font-size: 14px; margin: 6px 12px }
small, p { color: var(--muted); font-weight: normal; margin: 0 } a { color: inherit }
.grid { display: grid; grid-template-columns: repeat(24, minmax(0, 1fr)); gap: 8px }
article { display: flex; flex-direction: column; background: var(--card); border: 1px solid var(--line) }
iframe { flex: 1; width: 100%; border: 0 }
@media (max-width: 800px) { article { grid-column: 1 / -1 !important } }
"""
FRAME = "body { display: flow-root; padding: 0 12px 12px; background: var(--card) }"


def page(theme: str, head: str, header: str, sections: Sequence[str]) -> str:
    """The page around all widgets. `head`, `header` and `sections` are HTML."""
    main = f"<header>{header}</header><main>{''.join(sections)}</main>"
    return _html(theme, "The board", f"{head}<style>{PAGE}</style>", main)


def section(title: str, subtitle: str, cards: Sequence[str]) -> str:
    """The cards of one account, below a heading."""
    heading = f"<h2>{escape(title)} <small>{escape(subtitle)}</small></h2>"
    return f'<section>{heading}<div class="grid">{"".join(cards)}</div></section>'


def card(title: str, columns: int, pixels: int, frame: str) -> str:
    """A widget: its title, and a frame in which no script runs. `frame` is `src="…"` or `srcdoc="…"`."""
    title = escape(title)
    return (
        f'<article style="grid-column: span {columns}; height: {pixels}px"><h3>{title}</h3>'
        f'<iframe sandbox="allow-popups" title="{title}" {frame}></iframe></article>'
    )


def document(theme: str, title: str, html: str) -> str:
    """The document in a widget's frame. Links open in another tab, as in CloudWatch."""
    return _html(theme, title, f'<base target="_blank"><style>{FRAME}</style>', f"<main>{html}</main>")


def _html(theme: str, title: str, head: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en" class="{theme}"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{COLORS}</style>{head}</head>'
        f"<body>{body}</body></html>"
    )
