"""The accounts and names that tools and tests share, and the folders of the project."""

import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BUILD = ROOT / ".aws-sam" / "build"
LOCAL = ROOT / ".local"
CONFIG = ROOT / "config" / "sekisho.toml"
REQUIREMENTS = ROOT / "tools" / "requirements.txt"
LOCAL_CLOUD = ROOT / "local_cloud"

REGION = "ap-northeast-1"
ACCOUNTS = {"repository": "111111111111", "test": "222222222222", "production": "333333333333"}
# An account of the same organization, but outside the organizational unit of the test and production accounts.
OUTSIDE_ACCOUNT = "444444444444"
# The ids of the local cloud's organization, of its root and of its unit, as condition keys spell the unit's path.
ORGANIZATION, ORGANIZATION_ROOT, WORKLOADS_UNIT = "o-sekisholocal", "r-seki", "ou-seki-workloads"
WORKLOADS = f"{ORGANIZATION}/{ORGANIZATION_ROOT}/{WORKLOADS_UNIT}/"
# The local cloud's IAM Identity Center: its instance, and the store of its users.
IDENTITY_CENTER, IDENTITY_STORE = "arn:aws:sso:::instance/ssoins-0123456789abcdef", "d-0123456789"
FUNCTIONS = {
    "EventRelay": "event-relay",
    "PipelineStarter": "pipeline-starter",
    "TempAccess": "temp-access",
    "ArtifactChecker": "artifact-checker",
    "ArtifactSweeper": "artifact-checker",
}
BINARIES = tuple(dict.fromkeys(FUNCTIONS.values()))
STACK = "sekisho"
BUS = "sekisho"
LEDGER = "sekisho-ledger"
REPOSITORY = "shop"
PIPELINE = "shop"
PERSON = "prd-user"
# The user of the test account whom temp-access may let in there.
TEST_PERSON = "test-user"
SOURCE_ACTION = "Source"
# The tag of the managed pipeline's image action. No image has this tag, so an execution that no order started fails at
# its source.
NO_TAG = "sekisho-pins-the-digest"

# Lambda's name for this machine's architecture. Locally, the functions run on the machine that builds them.
ARCHITECTURE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
# Rust's target for each of Lambda's architectures.
RUST_TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}


def tool(name: str) -> Path:
    """The path of a program in the project's own Python environment."""
    return VENV / "bin" / name


@dataclass(frozen=True)
class Layout:
    """Which account has which duties: the account of each profile, and the samconfig.toml with its environments."""

    accounts: dict[str, str]
    samconfig: Path


# The layouts of the local stack, LAYOUT=… of `make up`. In the layout `two`, one account has the repository and the
# test pipelines, so the profiles `repository` and `test` lead to the same account.
LAYOUTS = {
    "three": Layout(ACCOUNTS, ROOT / "samconfig.toml"),
    "two": Layout({**ACCOUNTS, "test": ACCOUNTS["repository"]}, ROOT / "examples" / "two-accounts" / "samconfig.toml"),
}


@dataclass(frozen=True)
class Places:
    """The folder of one local stack, and the files in it."""

    folder: Path

    @property
    def config(self) -> Path:
        """The AWS config file with the stack's profiles."""
        return self.folder / "aws" / "config"

    @property
    def cloud(self) -> Path:
        """The file that records the cloud's process and port."""
        return self.folder / "cloud.json"

    @property
    def sekisho(self) -> Path:
        """The sekisho.toml that the functions of this stack read."""
        return self.folder / "sekisho.toml"

    @property
    def guide(self) -> Path:
        """The folder with the files for a person who follows docs/deploy.md."""
        return self.folder / "guide"

    @property
    def logs(self) -> Path:
        """The folder for logs."""
        return self.folder / "logs"

    @property
    def repositories(self) -> Path:
        """The folder for bare git repositories."""
        return self.folder / "repositories"
