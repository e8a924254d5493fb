"""What people see: steps as they go and lines of a timeline; a moving line on a terminal, plain lines without one."""

import shutil
import sys
import threading
import time

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TERMINAL = sys.stdout.isatty()


class Waiting:
    """While it lasts, a terminal shows what is waited for; it leaves nothing behind."""

    def __init__(self, title):
        self.title = title
        self.detail = ""

    def __enter__(self):
        self.began = time.monotonic()
        self._ended = threading.Event()
        if TERMINAL:
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def _draw(self):
        frame = 0
        while not self._ended.wait(0.1):
            line = f"{FRAMES[frame % len(FRAMES)]} {self.title}  {time.monotonic() - self.began:.0f} s  {self.detail}"
            sys.stdout.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stdout.flush()
            frame += 1

    def __exit__(self, *_):
        self._ended.set()
        if TERMINAL:
            self._thread.join()
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


class Step(Waiting):
    """One thing under way: says that it began, and what came of it after how long."""

    def __enter__(self):
        if not TERMINAL:
            print(f"{self.title} …", flush=True)
        return super().__enter__()

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        outcome = "done" if kind is None else "failed" if issubclass(kind, Exception) else "ended"
        mark = ("✓ " if kind is None else "✗ ") if TERMINAL else ""
        print(f"{mark}{self.title}: {outcome} ({time.monotonic() - self.began:.0f} s)", flush=True)


def table(heads, rows):
    """A table in plain text, each column as wide as its widest cell."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells)]
    for row in [list(heads), ["─" * width for width in widths], *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)
