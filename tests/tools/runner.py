"""Runs the operations against a local cloud, with the credentials of an AWS config file."""

import subprocess
import sys
from pathlib import Path

from tests.template.deployed import Deployed
from tools.layout import REGION, ROOT
from tools.surroundings import clean_environment


def write_config(cloud: Deployed, config: Path, **accounts: str) -> None:
    """Writes an AWS config file with a profile for the root of each account."""
    sections = (
        f"[profile {name}]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
        f"aws_access_key_id = {account}\naws_secret_access_key = root\n"
        for name, account in accounts.items()
    )
    config.write_text("".join(sections))


def run(config: Path, operation: str, environment: str, *more: str, **variables: str) -> tuple[int, str]:
    """Runs an operation, and returns its exit code and its output."""
    environ = clean_environment(AWS_CONFIG_FILE=str(config)) | variables
    command = [sys.executable, "-m", f"tools.operations.{operation.replace('-', '_')}", "--env", environment, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environ)
    return done.returncode, done.stdout + done.stderr
