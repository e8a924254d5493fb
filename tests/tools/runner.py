"""Runs the operations against a local cloud, with the credentials of an AWS config file."""

import os
import subprocess
import sys
from pathlib import Path

from tests.template.deployed import Deployed
from tools.layout import REGION, ROOT


def write_config(cloud: Deployed, config: Path, **accounts: str) -> None:
    """Writes an AWS config file with a profile for the root of each account."""
    sections = (
        f"[profile {name}]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
        f"aws_access_key_id = {account}\naws_secret_access_key = root\n"
        for name, account in accounts.items()
    )
    config.write_text("".join(sections))


def run(config: Path, operation: str, environment: str, *more: str, **variables: str) -> tuple[int, str]:
    """Runs an operation; returns its exit code and its output."""
    # The machine's own credentials and settings must not take effect.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    aws = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    command = [sys.executable, "-m", f"tools.operations.{operation.replace('-', '_')}", "--env", environment, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=clean | aws | variables)
    return done.returncode, done.stdout + done.stderr
