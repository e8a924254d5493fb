"""Builds and deploys the stack to the account of an environment.

    make deploy ENV=production        SAMCONFIG=… for another file than samconfig.toml

preflight.py first checks the facts without which the deployment would fail late. At the end, the command prints the
steps that remain for a person.
"""

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.build import check_config_command, make_layer_readable
from tools.failure import Failure
from tools.layout import CONFIG, ROOT
from tools.operations.environment import SAMCONFIG, Environment, environment, environments
from tools.operations.preflight import preflight
from tools.operations.protection import protect
from tools.processes import Word
from tools.surroundings import UMASK, operator_environment

# The folder of the project's own programs. sam looks for cargo-lambda in sam's own folder.
PROGRAMS = Path(sys.executable).parent
# Texts that sam prints. They show whether the person declined the change set, because sam's exit code is 0 even then.
QUESTION, SUCCESS = "Deploy this changeset?", "Successfully created/updated stack"


def deploy(name: str) -> None:
    """Builds the stack, shows the change set, and deploys it."""
    target = environment(name)
    preflight(target)
    steps = list(next_steps(target))
    print(
        f"Environment {name}: account {target.account}, region {target.region}, profile {target.profile}.", flush=True
    )
    # The build has a separate folder, because .aws-sam/build belongs to the local stack and is built for this machine.
    built = f".aws-sam/{name}"
    settings: list[Word] = ["--config-file", SAMCONFIG, "--config-env", name]
    architecture = f"Architecture={target.architecture}"
    sam = PROGRAMS / "sam"
    make_layer_readable()
    run(name, check_config_command(os.path.relpath(CONFIG, ROOT)))
    run(name, [sam, "build", *settings, "--build-dir", built, "--parameter-overrides", architecture])
    output = run(name, [sam, "deploy", *settings, "--template-file", f"{built}/template.yaml"])
    if QUESTION in output and SUCCESS not in output:
        raise Failure(f"Stack {target.stack} of account {target.account} is unchanged: you did not answer y.")
    unprotected = protect(target)
    print("\nNext:")
    for step in [unprotected, *steps] if unprotected else steps:
        print(f"- {step}")


def run(name: str, command: Sequence[Word]) -> str:
    """Runs a command, shows its output and its questions to the person, and returns the output."""
    environ = operator_environment()
    environ["PATH"] = f"{PROGRAMS}:{environ['PATH']}"
    output = bytearray()
    words = [str(word) for word in command]
    with subprocess.Popen(words, cwd=ROOT, env=environ, stdout=subprocess.PIPE, umask=UMASK) as process:
        assert isinstance(process.stdout, io.BufferedReader)
        # The output is shown at once and not line by line, because a question does not end with a new line.
        while some := process.stdout.read1():
            output += some
            sys.stdout.buffer.write(some)
            sys.stdout.buffer.flush()
    if process.returncode:
        raise Failure(
            f"This command failed for environment {name}, and the steps after it did not run: {' '.join(words)}"
        )
    return output.decode(errors="replace")


def next_steps(target: Environment) -> Iterator[str]:
    """The steps that remain for a person, each with the account in which the person takes the step."""
    repositories = environment(target.repositories)
    if target.does("HostsRepositories"):
        for other in environments().values():
            if other.repositories == target.repositories and other.name != target.name and other.does("HostsPipelines"):
                yield f"account {other.account}: make deploy ENV={other.name}; then make doctor ENV={other.name}"
    elif target.does("HostsPipelines"):
        yield (
            f"account {repositories.account}: event-relay sends the changes from before this account had its bus by "
            f"itself, within an hour; to send them now: make resend ENV={repositories.name} ROUTE=… "
            f"ACCOUNT={target.account}"
        )
    if target.does("HostsPipelines"):
        yield f"check each hop from the repositories to account {target.account}: make doctor ENV={target.name}"
    if target.does("GrantsAccess"):
        yield (
            f"account {target.account}: make prepare USER=… ENV={target.name} PROFILE=… for each person to whom access "
            "may be granted"
        )
        if not (target.parameters.get("SlackChannelId") or target.parameters.get("TeamsChannelId")):
            yield (
                f"account {target.account}: authorize Slack or Microsoft Teams in Chatbot's console, put "
                "SlackWorkspaceId and SlackChannelId, or the three parameters of Teams, into "
                f"[{target.name}.deploy.parameters] of {SAMCONFIG.name}, and deploy again"
            )


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make deploy", description="Builds and deploys the stack to the account of an environment"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    try:
        deploy(parser.parse_args(arguments).env)
    except Failure as error:
        sys.exit(f"Not deployed. {error}")
    except KeyboardInterrupt:
        sys.exit("Not deployed: interrupted.")


if __name__ == "__main__":
    main(sys.argv[1:])
