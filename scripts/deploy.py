#!/usr/bin/env python3
"""Builds and deploys the stack to the account of an environment: checks whose credentials these are first, says last what is next.

make deploy ENV=production
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from environment import ROOT, Refused, environment, environments

# The project's own tools; sam finds cargo-lambda beside itself.
TOOLS = Path(sys.executable).parent
CONFIG = "config/sekisho.toml"


def deploy(name):
    """Builds, shows the change set, and deploys it."""
    target = environment(name)
    target.session()
    print(f"Environment {name}: account {target.account}, region {target.region}, profile {target.profile}.", flush=True)
    # Its own folder: .aws-sam/build is the local stack's, built for this machine.
    built = f".aws-sam/{name}"
    overrides = [f"{key}={value}" for key, value in target.parameters.items()]
    for command in (["cargo", "run", "--quiet", "-p", "sekisho-domain", "--example", "check-config", "--", CONFIG],
                    [TOOLS / "sam", "build", "--config-env", name, "--build-dir", built, "--parameter-overrides", *overrides],
                    [TOOLS / "sam", "deploy", "--config-env", name, "--template-file", f"{built}/template.yaml"]):
        # Each says itself what failed; what `sam` asks, it asks the person.
        if subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}, check=False).returncode:
            raise Refused(f"This failed for environment {name}, and nothing after it was done: {' '.join(map(str, command))}")
    print("\nNext:")
    for step in following(target):
        print(f"- {step}")


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
                   f"[{target.name}.deploy.parameters] of samconfig.toml, and deploy again")


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
