"""The accounts of the local stack, and where its things lie."""

import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
BUILD = ROOT / ".aws-sam" / "build"
LOCAL = ROOT / ".local"
CONFIG = ROOT / "config" / "sekisho.toml"

REGION = "ap-northeast-1"
ACCOUNTS = {"repository": "111111111111", "test": "222222222222", "production": "333333333333"}
FUNCTIONS = {
    "EventRelay": "event-relay",
    "PipelineStarter": "pipeline-starter",
    "TempAccess": "temp-access",
    "ArtifactChecker": "artifact-checker",
}
STACK = "sekisho"
LEDGER = "sekisho-ledger"
REPOSITORY = "shop"
PIPELINE = "shop"
PERSON = "prd-user"
SOURCE_ACTION = "Source"

# Lambda's names for what this machine is: the functions run here as they are built.
ARCHITECTURE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())


def tool(name):
    """A tool of the project's own Python environment."""
    return VENV / "bin" / name


@dataclass(frozen=True)
class Places:
    """The folder of one stack and what lies in it."""

    folder: Path

    @property
    def config(self):
        return self.folder / "aws" / "config"

    @property
    def cloud(self):
        """Which process is the cloud, and at which port."""
        return self.folder / "cloud.json"

    @property
    def sekisho(self):
        return self.folder / "sekisho.toml"

    @property
    def logs(self):
        return self.folder / "logs"

    @property
    def repositories(self):
        return self.folder / "repositories"
