"""Runs the commands of the Makefile: `python3 tools COMMAND`."""

import argparse
import importlib
import os
import re
import signal
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python must name the needed version)
    sys.exit(
        f"This is Python {sys.version.split()[0]}; 3.11 or later is needed: apt-get install python3.11 python3.11-venv"
    )

# `python3 tools` puts this folder first on the path. The imports below need the project's root there instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.failure import Failure  # noqa: E402
from tools.keeper import end_with_parent, outlive_parent  # noqa: E402
from tools.layout import LAYOUTS, VENV  # noqa: E402
from tools.machine import set_up  # noqa: E402
from tools.surroundings import adopt, clean_environment, operator_environment  # noqa: E402

# The module and the function of each local command. Most modules need packages of `.venv`, so they are imported late.
LOCAL = {
    "build": ("tools.build", "build"),
    "up": ("tools.local_stack.stack", "up"),
    "demo": ("tools.local_stack.demo", "demo"),
    "test": ("tools.checks", "run_checks"),
    "bench": ("tools.bench.driver", "bench"),
    "pictures": ("tools.browser.pictures", "draw_pictures"),
}
# These commands act on real accounts and parse their arguments themselves.
OPERATIONS = (
    "deploy",
    "doctor",
    "validate",
    "smoke",
    "prepare",
    "person",
    "people",
    "hub",
    "audit",
    "where",
    "resend",
    "repair",
    "redrive",
    "clean-start",
    "upgrade-pipeline",
)
# The exit code of argparse for an option that is missing or wrong.
WRONG_OPTIONS = 2
# The operations on trains, which share one module. The module gets the operation as its first argument.
TRAINS = ("train", "hold", "resume", "accept", "promote", "pardon", "rollback")


def parser() -> argparse.ArgumentParser:
    """The parser of the local commands."""
    root = argparse.ArgumentParser(prog="make", description="The commands of the Makefile")
    commands = root.add_subparsers(dest="command", required=True)
    commands.add_parser("help").add_argument("makefile", type=Path)
    for name in ("setup", "down", *LOCAL, *OPERATIONS, *TRAINS):
        command = commands.add_parser(name)
        if name == "up":
            command.add_argument("--port", type=int)
            command.add_argument("--empty", action="store_true")
            command.add_argument("--layout", choices=LAYOUTS)
    return root


def show_help(makefile: Path) -> None:
    """Prints each command of the Makefile with its description."""
    for line in makefile.read_text().splitlines():
        if found := re.match(r"([a-z-]+): ## (.*)", line):
            print(f"  make {found[1]:<16} {found[2]}")


def in_venv(arguments: list[str]) -> None:
    """Installs the packages that are missing, and continues in the project's own Python environment."""
    set_up()
    if Path(sys.prefix).resolve() != VENV.resolve():
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, str(Path(__file__).parent), *arguments])


def detach() -> None:
    """Lets this process outlive make, so that a change to a real account is completed even if make is killed."""
    outlive_parent()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def operate(module: str, arguments: list[str]) -> None:
    """Runs a command on real accounts."""
    detach()
    try:
        importlib.import_module(f"tools.operations.{module}").main(arguments)
    except SystemExit as end:
        if end.code == WRONG_OPTIONS:
            print("With make, write an option such as --env NAME as ENV=NAME.", file=sys.stderr)
        raise


def main(arguments: list[str]) -> None:
    """Runs one command."""
    # If make is killed, this process must end too, and clean up.
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    command = arguments[0] if arguments else ""
    adopt(operator_environment() if command in OPERATIONS + TRAINS else clean_environment())
    if command in OPERATIONS:
        in_venv(arguments)
        operate(command.replace("-", "_"), arguments[1:])
        return
    if command in TRAINS:
        in_venv(arguments)
        operate("trains", arguments)
        return
    asked = parser().parse_args(arguments)
    if asked.command == "help":
        show_help(asked.makefile)
    elif asked.command == "down":
        importlib.import_module("tools.local_stack.server").down()
    else:
        in_venv(arguments)
        if asked.command == "setup":
            return
        module, function = LOCAL[asked.command]
        given = [asked.port, asked.empty, asked.layout] if asked.command == "up" else []
        getattr(importlib.import_module(module), function)(*given)


try:
    main(sys.argv[1:])
except Failure as failure:
    sys.exit(f"\n{failure}")
except KeyboardInterrupt:
    sys.exit(130)
