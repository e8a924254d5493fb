#!/usr/bin/env python3
"""Builds and deploys the stack to the account of an environment: checks first what would fail late, says last what is next.

make deploy ENV=production        SAMCONFIG=… for another file than samconfig.toml
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from environment import ROOT, SAMCONFIG, Refused, environment, environments

# The project's own tools; sam finds cargo-lambda beside itself.
TOOLS = Path(sys.executable).parent
CONFIG = "config/sekisho.toml"
RUST_TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# What sam says: its exit code is 0 as well where the answer was no.
ASKED, DEPLOYED = "Deploy this changeset?", "Successfully created/updated stack"


def deploy(name):
    """Builds, shows the change set, and deploys it."""
    target = environment(name)
    target.session()
    needs(target)
    steps = list(following(target))
    print(f"Environment {name}: account {target.account}, region {target.region}, profile {target.profile}.", flush=True)
    # Its own folder: .aws-sam/build is the local stack's, built for this machine.
    built = f".aws-sam/{name}"
    ours = ["--config-file", SAMCONFIG, "--config-env", name]
    run(name, ["cargo", "run", "--quiet", "-p", "sekisho-domain", "--example", "check-config", "--", CONFIG])
    run(name, [TOOLS / "sam", "build", *ours, "--build-dir", built, "--parameter-overrides", f"Architecture={target.architecture}"])
    said = run(name, [TOOLS / "sam", "deploy", *ours, "--template-file", f"{built}/template.yaml"])
    if ASKED in said and DEPLOYED not in said:
        raise Refused(f"Stack {target.stack} of account {target.account} is as it was: you did not answer y.")
    print("\nNext:")
    for step in steps:
        print(f"- {step}")


def run(name, command):
    """Runs a command that speaks for itself, and asks the person what it has to; gives what it said."""
    environ = os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
    said = bytearray()
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
        # As it comes: a question has no end of line.
        while some := process.stdout.read1():
            said += some
            sys.stdout.buffer.write(some)
            sys.stdout.buffer.flush()
    if process.returncode:
        raise Refused(f"This failed for environment {name}, and nothing after it was done: {' '.join(map(str, command))}")
    return said.decode(errors="replace")


def needs(target):
    """Refuses what would fail after minutes of building."""
    if target.asks and not sys.stdin.isatty():
        raise Refused(f"Environment {target.name} asks before it deploys (confirm_changeset), and nobody can answer here: "
                      f"run it in a terminal, or set confirm_changeset = false under [{target.name}.deploy.parameters] in {SAMCONFIG.name}.")
    if target.architecture not in RUST_TARGETS:
        raise Refused(f"Architecture={target.architecture} of environment {target.name} is none: use {' or '.join(RUST_TARGETS)}.")
    rust = RUST_TARGETS[target.architecture]
    # Not by rustup, which a distribution's Rust lacks.
    libraries = subprocess.run(["rustc", "--print", "target-libdir", "--target", rust], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    if not libraries or not list(Path(libraries).glob("libstd-*")):
        raise Refused(f"Rust can't build for {rust} yet, which Architecture={target.architecture} (arm64 where {SAMCONFIG.name} says nothing) needs: "
                      f"rustup target add {rust}")


def following(target):
    """What is left to do, and in which account."""
    family = [one for one in environments().values() if one.repositories == target.repositories and one.name != target.name]
    if target.does("HostsRepositories"):
        for other in family:
            if other.does("HostsPipelines"):
                yield f"account {other.account}: make deploy ENV={other.name}; then make doctor ENV={other.name}"
    elif target.does("HostsPipelines"):
        yield f"account {environment(target.repositories).account}: make deploy ENV={target.repositories}, where that has not been done"
        yield (f"account {environment(target.repositories).account}: make redrive ENV={target.repositories}, where that was deployed before this one: "
               "what changed before this account had its bus waits in event-relay's dead letters")
    if target.does("HostsPipelines"):
        yield f"the way from the repositories to account {target.account}, hop by hop: make doctor ENV={target.name}"
    if target.does("GrantsAccess"):
        yield f"account {target.account}: make prepare USER=… ENV={target.name} PROFILE=… for each person who may be let in"
        if not target.parameters.get("SlackChannelId"):
            yield (f"account {target.account}: authorize Slack in Chatbot's console, put SlackWorkspaceId and SlackChannelId into "
                   f"[{target.name}.deploy.parameters] of {SAMCONFIG.name}, and deploy again")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, metavar="ENV")
    try:
        deploy(parser.parse_args().env)
    except Refused as error:
        sys.exit(f"Not deployed. {error}")
    except KeyboardInterrupt:
        sys.exit("Not deployed: interrupted.")


if __name__ == "__main__":
    main()
