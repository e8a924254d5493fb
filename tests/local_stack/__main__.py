"""The commands of the Makefile."""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"This is Python {sys.version.split()[0]}; 3.11 or later is needed: apt-get install python3.11 python3.11-venv")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local_stack import tools  # noqa: E402
from local_stack.keeper import end_with_parent  # noqa: E402
from local_stack.layout import VENV  # noqa: E402
from local_stack.processes import Failure  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="make", description="The local stack")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("help").add_argument("makefile")
    for name in ("setup", "build", "down", "demo", "test"):
        commands.add_parser(name)
    commands.add_parser("up").add_argument("--port", type=int)
    return parser.parse_args()


def show_help(makefile):
    for line in Path(makefile).read_text().splitlines():
        if found := re.match(r"([a-z]+): ## (.*)", line):
            print(f"  make {found[1]:<8} {found[2]}")


def main():
    # make may be killed outright: then this must end as well, in order.
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    asked = arguments()
    if asked.command == "help":
        return show_help(asked.makefile)
    if asked.command == "down":
        from local_stack import server

        return server.down()
    tools.set_up()
    if asked.command == "setup":
        return None
    if Path(sys.prefix) != VENV:
        python = VENV / "bin" / "python"
        os.execv(python, [python, *sys.argv])
    if asked.command == "build":
        from local_stack import build

        build.build()
    elif asked.command == "up":
        from local_stack import stack

        stack.up(asked.port)
    elif asked.command == "demo":
        from local_stack import demo

        demo.demo()
    else:
        from local_stack import checks

        checks.checks()


try:
    main()
except Failure as failure:
    sys.exit(f"\n{failure}")
except KeyboardInterrupt:
    sys.exit(130)
