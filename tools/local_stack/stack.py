"""Sets up the three accounts on a local cloud: administrators, the template, repository, pipelines and person."""

import re
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.config
import botocore.session

from tools.build import build, environment
from tools.console import Step, Waiting
from tools.failure import Failure
from tools.layout import (
    ACCOUNTS,
    ARCHITECTURE,
    BUILD,
    CONFIG,
    LAYOUTS,
    LOCAL,
    OUTSIDE_ACCOUNT,
    PERSON,
    PIPELINE,
    REGION,
    REPOSITORY,
    ROOT,
    SOURCE_ACTION,
    STACK,
    TEST_PERSON,
    Places,
    tool,
)
from tools.local_stack import doors, server
from tools.local_stack.guide import explain_guide, write_guide
from tools.local_stack.local_build import build_for_local_use
from tools.machine import locked
from tools.ports import free_port
from tools.processes import Command, Word, run

ADMINISTRATOR = "administrator"
# The template that `make build` writes.
RELEASE = BUILD / "template.yaml"
POLL_SECONDS = 0.2

Found = TypeVar("Found")


class Stack:
    """A running local cloud, seen through the profiles in its AWS config file."""

    def __init__(self, places: Places, port: int, layout: str = "three") -> None:
        self.places = places
        self.layout = layout
        self.accounts, self.samconfig = LAYOUTS[layout].accounts, LAYOUTS[layout].samconfig
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._sessions: dict[str, boto3.Session] = {}

    @property
    def board(self) -> str:
        """The address of the page with the dashboards of all accounts."""
        return f"{self.endpoint}/_local-cloud/board"

    def client(self, profile: str, service: str) -> Any:
        """A client whose settings all come from the profile."""
        if profile not in self._sessions:
            session = botocore.session.Session(profile=profile)
            session.set_config_variable("config_file", str(self.places.config))
            session.set_config_variable("credentials_file", "/dev/null")
            self._sessions[profile] = boto3.Session(botocore_session=session)
        # The client makes no retries, because the demo and the tests expect refusals.
        config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=90)
        make_client: Any = self._sessions[profile].client
        return make_client(service, config=config)

    def root(self, account: str, service: str) -> Any:
        """A client with the rights of the account's root, used only to create the administrators.

        The emulator treats a caller whose access key is the account's id as the root of that account.
        """
        make_client: Any = boto3.client
        return make_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="root",
        )

    def post(self, path: str, body: str) -> str:
        """Posts to one of the local cloud's own paths, which no AWS client uses, and returns the answer."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.endpoint}/_local-cloud/{path}", body.encode(), timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def outputs(self, profile: str, stack: str = STACK) -> dict[str, str]:
        """The outputs of a stack, as a dictionary."""
        described = self.client(profile, "cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def environment(self, profile: str) -> dict[str, str]:
        """The environment in which command-line tools use that profile."""
        return environment(
            AWS_CONFIG_FILE=str(self.places.config),
            AWS_SHARED_CREDENTIALS_FILE="/dev/null",
            AWS_PROFILE=profile,
            SAMCONFIG=str(self.samconfig),
        )


def eventually(what: str, probe: Callable[[], Found | None], seconds: float) -> Found:
    """Calls `probe` until it returns a true value, and returns that value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    with Waiting(what):
        while True:
            found = probe()
            if found:
                return found
            if time.monotonic() > deadline:
                raise Failure(f"This did not happen within {seconds} s: {what}.")
            time.sleep(POLL_SECONDS)


def _create_administrators(stack: Stack) -> None:
    """Creates an IAM user as administrator in each account, because policies do not limit an account's root.

    In the fourth account, which is outside the unit of the other accounts, nothing is deployed.
    """
    accounts, keys = {**stack.accounts, "outside": OUTSIDE_ACCOUNT}, {}
    for account in dict.fromkeys(accounts.values()):
        iam = stack.root(account, "iam")
        iam.create_user(UserName=ADMINISTRATOR)
        iam.attach_user_policy(UserName=ADMINISTRATOR, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        keys[account] = iam.create_access_key(UserName=ADMINISTRATOR)["AccessKey"]
    sections = [_profile(stack, profile, keys[account]) for profile, account in accounts.items()]
    # One endpoint serves all services. This section names the endpoint for the services that the emulator itself lacks.
    services = (
        f"[services local]\ncodecommit =\n  endpoint_url = {stack.endpoint}\n"
        f"codepipeline =\n  endpoint_url = {stack.endpoint}\n"
    )
    _write(stack.places.config, "\n".join([*sections, services]))


def _profile(stack: Stack, name: str, key: dict[str, str]) -> str:
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    return _section(stack, name, keys)


def _section(stack: Stack, name: str, keys: dict[str, str]) -> str:
    """A profile of an AWS config file, with its keys as that file spells them."""
    settings = {"region": REGION, **keys, "endpoint_url": stack.endpoint, "services": "local"}
    return "\n".join([f"[profile {name}]", *(f"{key} = {value}" for key, value in settings.items()), ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_config(stack: Stack) -> None:
    """Writes the committed configuration, but with `repair = "copy"`, with profiles that need no MFA, and with people.

    The accounts in it are those of the layout.

    With `update`, a repair would only test our own stand-in for UpdateObjectEncryption. With `copy`, a repair runs the
    emulator's own code. The emulator has no MFA, so a profile that needs it would allow nothing.
    """
    text, count = re.subn(r'^repair(\s*)=\s*"\w+"', r'repair\1= "copy"', CONFIG.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise Failure(f"{CONFIG} sets `repair` {count} times; the local stack expects it once.")
    text = re.sub(r"^(require_mfa|mfa_minutes)\s*=.*\n", "", text, flags=re.MULTILINE)
    text += doors.CONFIGURATION
    for profile, account in ACCOUNTS.items():
        text = text.replace(account, stack.accounts[profile])
    _write(stack.places.sekisho, text)


def deployed_profiles(stack: Stack) -> list[str]:
    """The profiles of the environments `local-…` in the layout's samconfig.toml, in the order of deployment."""
    environments = tomllib.loads(stack.samconfig.read_text())
    return [name.removeprefix("local-") for name in environments if name.startswith("local-")]


def _overrides(stack: Stack, profile: str) -> list[str]:
    """The template's parameters from samconfig.toml for the account, but with this machine's architecture."""
    environments = tomllib.loads(stack.samconfig.read_text())
    try:
        given: str | list[str] = environments[f"local-{profile}"]["deploy"]["parameters"]["parameter_overrides"]
    except KeyError as key:
        raise Failure(
            f"{stack.samconfig} lacks [local-{profile}.deploy.parameters] parameter_overrides ({key})"
        ) from None
    given = given if isinstance(given, list) else given.split()
    return [one for one in given if not one.startswith("Architecture=")] + [f"Architecture={ARCHITECTURE}"]


def _deploy(stack: Stack, profile: str, template: Path) -> None:
    command: list[Word] = [
        tool("sam"),
        "deploy",
        "--config-file",
        stack.samconfig,
        "--config-env",
        f"local-{profile}",
        "--template-file",
        template,
    ]
    command += ["--stack-name", STACK, "--profile", profile, "--region", REGION, "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
    command += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    command += ["--parameter-overrides", *_overrides(stack, profile)]
    log = stack.places.logs / f"deploy-{profile}.log"
    run(f"Deploying to {profile} ({stack.accounts[profile]})", command, log, cwd=ROOT, env=stack.environment(profile))


def _create_repository(stack: Stack) -> None:
    codecommit = stack.client("repository", "codecommit")
    names = [one["repositoryName"] for one in codecommit.list_repositories()["repositories"]]
    if REPOSITORY not in names:
        codecommit.create_repository(repositoryName=REPOSITORY)


def pipeline(outputs: dict[str, str], source_role: str) -> dict[str, Any]:
    """The account's pipeline `shop`, which reads the commit from the repository account and deploys the stack."""
    account = outputs["PipelineRoleArn"].split(":")[4]
    return {
        "name": PIPELINE,
        "roleArn": outputs["PipelineRoleArn"],
        "pipelineType": "V2",
        "executionMode": "QUEUED",
        "artifactStore": {
            "type": "S3",
            "location": outputs["ArtifactBucketName"],
            "encryptionKey": {"id": outputs["ArtifactKeyArn"], "type": "KMS"},
        },
        "stages": [
            {
                "name": "Source",
                "actions": [
                    {
                        "name": SOURCE_ACTION,
                        "actionTypeId": {
                            "category": "Source",
                            "owner": "AWS",
                            "provider": "CodeCommit",
                            "version": "1",
                        },
                        "roleArn": source_role,
                        "configuration": {
                            "RepositoryName": REPOSITORY,
                            "BranchName": "main",
                            "PollForSourceChanges": "false",
                        },
                        "outputArtifacts": [{"name": "Source"}],
                    }
                ],
            },
            {
                "name": "Deploy",
                "actions": [
                    _change_set(account, 1, "CHANGE_SET_REPLACE"),
                    _change_set(account, 2, "CHANGE_SET_EXECUTE"),
                ],
            },
        ],
    }


def _change_set(account: str, order: int, mode: str) -> dict[str, Any]:
    """One of the two actions that change the application's stack by a change set."""
    configuration = {"ActionMode": mode, "StackName": REPOSITORY, "ChangeSetName": f"{PIPELINE}-change"}
    if mode == "CHANGE_SET_REPLACE":
        configuration |= {
            "TemplatePath": "Source::api/template.yaml",
            "Capabilities": "CAPABILITY_IAM,CAPABILITY_AUTO_EXPAND",
            "RoleArn": f"arn:aws:iam::{account}:role/sekisho-cloudformation-{REGION}",
        }
    return {
        "name": "ChangeSet" if order == 1 else "Execute",
        "runOrder": order,
        "actionTypeId": {"category": "Deploy", "owner": "AWS", "provider": "CloudFormation", "version": "1"},
        "configuration": configuration,
        "inputArtifacts": [{"name": "Source"}] if order == 1 else [],
    }


def create_pipelines(stack: Stack) -> None:
    """Creates the pipelines of the test and production accounts, or gives them their first form back."""
    source_role = stack.outputs("repository")["SourceActionRoleArn"]
    for profile in ("test", "production"):
        client = stack.client(profile, "codepipeline")
        wanted = pipeline(stack.outputs(profile), source_role)
        if PIPELINE in [one["name"] for one in client.list_pipelines()["pipelines"]]:
            client.update_pipeline(pipeline=wanted)
        else:
            client.create_pipeline(pipeline=wanted)


def _create_person(stack: Stack, profile: str, name: str) -> None:
    """Creates a user without permissions in an account, to whom temp-access may grant access there."""
    iam = stack.client(profile, "iam")
    try:
        iam.get_user(UserName=name)
        return
    except iam.exceptions.NoSuchEntityException:
        pass
    iam.create_user(
        UserName=name,
        PermissionsBoundary=stack.outputs(profile)["AccessBoundaryArn"],
        Tags=[{"Key": "sekisho:access", "Value": "grantable"}],
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    _write(stack.places.config, _profile(stack, name, key) + "\n" + stack.places.config.read_text())


def _add_profiles(stack: Stack, keys: dict[str, dict[str, str]]) -> None:
    """Writes each person's profile anew, because the keys of a session end."""
    config = stack.places.config
    sections = re.split(r"^(?=\[)", config.read_text(), flags=re.MULTILINE)
    others = [one for one in sections if one.partition("]")[0] not in {f"[profile {name}" for name in keys}]
    _write(config, "\n".join(_section(stack, name, key) for name, key in keys.items()) + "\n" + "".join(others))


def deploy(stack: Stack, template: Path = RELEASE) -> None:
    """Deploys the built template to each account, and creates the repository, pipelines, users and doors."""
    _write_config(stack)
    for profile in deployed_profiles(stack):
        _deploy(stack, profile, template)
    with Step("Making the repository, the pipelines and the users"):
        _create_repository(stack)
        create_pipelines(stack)
        _create_person(stack, "production", PERSON)
        _create_person(stack, "test", TEST_PERSON)
    _add_profiles(stack, doors.open_doors(stack))


def _start(places: Places, port: int | None, layout: str) -> tuple[Command, Stack]:
    """Starts a cloud and creates only the administrators in it; ends the cloud if that fails."""
    server.clear(places)
    places.folder.mkdir(parents=True, exist_ok=True)
    cloud, port = server.start(places, port)
    try:
        stack = Stack(places, port, layout)
        _write_config(stack)
        _create_administrators(stack)
    except BaseException:
        cloud.end()
        raise
    return cloud, stack


@contextmanager
def temporary_stack(folder: Path, empty: bool = False, release: bool = True, layout: str = "three") -> Iterator[Stack]:
    """Sets up a whole stack in a separate folder, and always ends its cloud. After a failure, the files stay.

    With `empty`, it deploys nothing, like `make up EMPTY=1`. Without `release`, it deploys what `make up` deploys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = Places(folder)
    with locked(folder, f"Another run uses {folder}: wait until it has ended."):
        template = None if empty else build() if release else build_for_local_use()
        cloud, stack = _start(places, None, layout)
        try:
            if template:
                deploy(stack, template)
            else:
                write_guide(stack)
            yield stack
        finally:
            with Step("Ending the local cloud"):
                cloud.end()
        server.clear(places)


def up(port: int | None, empty: bool = False, layout: str | None = None) -> None:
    """Runs `make up`: starts the cloud unless it runs, deploys the changes, and leaves the cloud running.

    With `empty`, it starts a new cloud and deploys nothing, for a person who follows docs/deploy.md. Without `layout`,
    a new cloud has the layout `three`, and a running one keeps its own.
    """
    LOCAL.mkdir(exist_ok=True)
    places = Places(LOCAL)
    with locked(LOCAL, "Another `make up` or `make down` is running: wait until it has ended."):
        about = server.running(places)
        if about and empty:
            raise Failure(f"The local cloud already runs at port {about['port']}: `make down` first for an empty one.")
        if about and port and about["port"] != port:
            raise Failure(
                f"The local cloud already runs at port {about['port']}: `make down` first to run it at {port}."
            )
        before = about.get("layout", "three") if about else layout or "three"
        if layout not in (None, before):
            raise Failure(f"The local cloud already runs in the layout {before}: `make down` first for {layout}.")
        if port and not about:
            free_port(port)  # so that a port in use is reported before the build, not after it
        template = None if empty else build_for_local_use()
        if about and template:
            stack = Stack(places, about["port"], before)
            deploy(stack, template)
        else:
            cloud, stack = _start(places, port, before)
            try:
                if template:
                    deploy(stack, template)
                else:
                    write_guide(stack)
                server.remember(places, cloud, stack.port, before)
                cloud.release()
            except BaseException:
                cloud.end()
                raise
    if empty:
        explain_guide(stack)
    else:
        _explain(stack)
    print(f"The board, with who has access, what runs where and what is waiting: {stack.board}")


def _explain(stack: Stack) -> None:
    places = stack.places
    config = places.config.relative_to(ROOT)
    print()
    users = {PERSON: stack.accounts["production"], TEST_PERSON: stack.accounts["test"]}
    members = dict.fromkeys(doors.PEOPLE, stack.accounts[doors.HUB])
    for profile, account in {**stack.accounts, **users, **members, "outside": OUTSIDE_ACCOUNT}.items():
        print(f"  profile {profile:<12} account {account}")
    print(
        f"""
The local cloud is up. Profiles are in {config}, for example:
  AWS_CONFIG_FILE={config} {tool("aws").relative_to(ROOT)} --profile production \\
    lambda invoke --function-name temp-access --payload '{{"user":"{PERSON}","minutes":5}}' /dev/stdout
  git clone {(places.repositories / REPOSITORY).relative_to(ROOT)}.git
`make down` ends it."""
    )
