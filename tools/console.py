"""Shows progress on the console: a moving line on a terminal, and plain lines elsewhere."""

import shutil
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TERMINAL = sys.stdout.isatty()
# The time between two lines about the progress of a step, if the output is not a terminal.
REPORT_SECONDS = 15.0


class Waiting:
    """Shows on a terminal what the program is waiting for, and removes that line at the end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Self:
        if TERMINAL:
            self._thread.start()
        return self

    def _draw(self) -> None:
        frame = 0
        while not self._ended.wait(0.1):
            line = f"{FRAMES[frame % len(FRAMES)]} {self.title}  {self.seconds():.0f} s  {self.detail}"
            sys.stdout.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stdout.flush()
            frame += 1

    def seconds(self) -> float:
        """The seconds since this object was created."""
        return time.monotonic() - self.began

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if TERMINAL:
            self._thread.join()
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


class Step(Waiting):
    """Reports one step of the work: prints first that the step began, and later its outcome and duration."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._next_report = REPORT_SECONDS

    def __enter__(self) -> Self:
        if not TERMINAL:
            print(f"{self.title} …", flush=True)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        outcome = "done" if kind is None else "failed" if issubclass(kind, Exception) else "ended"
        mark = ("✓ " if kind is None else "✗ ") if TERMINAL else ""
        print(f"{mark}{self.title}: {outcome} ({self.seconds():.0f} s)", flush=True)

    def report(self, progress: str) -> None:
        """Shows the progress of the step. Without a terminal, that is at most one line every `REPORT_SECONDS`."""
        self.detail = progress
        if progress and not TERMINAL and self.seconds() >= self._next_report:
            self._next_report = self.seconds() + REPORT_SECONDS
            print(f"{self.title}: {progress} ({self.seconds():.0f} s)", flush=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table in plain text, each column as wide as its widest cell."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in [list(heads), ["─" * width for width in widths], *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)
