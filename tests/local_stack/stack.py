"""The three accounts on a local cloud: administrators, the deployed template, and what the demo and the tests work with."""

import re
import time
import tomllib
from contextlib import contextmanager

import boto3
import botocore.config
import botocore.session

from . import server
from .build import build, environment
from .console import Step, Waiting
from .layout import (
    ACCOUNTS,
    ARCHITECTURE,
    BUILD,
    CONFIG,
    LOCAL,
    PERSON,
    PIPELINE,
    REGION,
    REPOSITORY,
    ROOT,
    SOURCE_ACTION,
    STACK,
    Places,
    tool,
)
from .processes import Failure, run
from .tools import alone

ADMINISTRATOR = "administrator"
POLL_SECONDS = 0.2


class Stack:
    """A running local cloud, seen through the profiles in its AWS config file."""

    def __init__(self, places, port):
        self.places = places
        self.endpoint = f"http://127.0.0.1:{port}"
        self._sessions = {}

    def client(self, profile, service):
        """A client with the profile's credentials and endpoint, and no other setting: as anyone's would be."""
        if profile not in self._sessions:
            session = botocore.session.Session(profile=profile)
            session.set_config_variable("config_file", str(self.places.config))
            session.set_config_variable("credentials_file", "/dev/null")
            self._sessions[profile] = boto3.Session(botocore_session=session)
        # The person is refused on purpose: what is refused must not be tried again.
        config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=90)
        return self._sessions[profile].client(service, config=config)

    def root(self, account, service):
        """A client as the account's root, which the emulator takes any 12-digit access key for: to begin with, only."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="root",
        )

    def outputs(self, profile, stack=STACK):
        """The outputs of a stack, as a dictionary."""
        described = self.client(profile, "cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def environment(self, profile):
        """The environment in which command-line tools are that profile."""
        return environment(AWS_CONFIG_FILE=str(self.places.config), AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_PROFILE=profile)


def eventually(what, probe, seconds):
    """Asks `probe` until it gives something true, and gives that; fails once the time is over."""
    deadline = time.monotonic() + seconds
    with Waiting(what):
        while True:
            found = probe()
            if found:
                return found
            if time.monotonic() > deadline:
                raise Failure(f"Not so within {seconds} s: {what}.")
            time.sleep(POLL_SECONDS)


# Bringing it up


def _administrators(stack):
    """An administrator for each account, as an IAM user: nothing stops an account's root, not even a Deny."""
    sections = []
    for profile, account in ACCOUNTS.items():
        iam = stack.root(account, "iam")
        iam.create_user(UserName=ADMINISTRATOR)
        iam.attach_user_policy(UserName=ADMINISTRATOR, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        sections.append(_profile(stack, profile, iam.create_access_key(UserName=ADMINISTRATOR)["AccessKey"]))
    # One endpoint serves everything; the section names what the emulator itself has not.
    services = f"[services local]\ncodecommit =\n  endpoint_url = {stack.endpoint}\ncodepipeline =\n  endpoint_url = {stack.endpoint}\n"
    _write(stack.places.config, "\n".join([*sections, services]))


def _profile(stack, name, key):
    return (
        f"[profile {name}]\n"
        f"region = {REGION}\n"
        f"aws_access_key_id = {key['AccessKeyId']}\n"
        f"aws_secret_access_key = {key['SecretAccessKey']}\n"
        f"endpoint_url = {stack.endpoint}\n"
        "services = local\n"
    )


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _config(places):
    """The committed config but for `repair`: in place it would be our stand-in that repairs, a copy is the emulator's own."""
    text, count = re.subn(r'^repair(\s*)=\s*"\w+"', r'repair\1= "copy"', CONFIG.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise Failure(f"{CONFIG} sets `repair` {count} times; the local stack expects it once.")
    _write(places.sekisho, text)


def _overrides(profile):
    """The template's parameters for the account, as samconfig.toml has them, for this machine's architecture."""
    environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
    try:
        given = environments[f"local-{profile}"]["deploy"]["parameters"]["parameter_overrides"]
    except KeyError as key:
        raise Failure(f"samconfig.toml lacks [local-{profile}.deploy.parameters] parameter_overrides ({key})") from None
    given = given if isinstance(given, list) else given.split()
    return [one for one in given if not one.startswith("Architecture=")] + [f"Architecture={ARCHITECTURE}"]


def _deploy(stack, profile):
    command = [tool("sam"), "deploy", "--config-env", f"local-{profile}", "--template-file", BUILD / "template.yaml"]
    command += ["--stack-name", STACK, "--profile", profile, "--region", REGION, "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
    command += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    command += ["--parameter-overrides", *_overrides(profile)]
    log = stack.places.logs / f"deploy-{profile}.log"
    run(f"Deploying to {profile} ({ACCOUNTS[profile]})", command, log, cwd=ROOT, env=stack.environment(profile))


def _repository(stack):
    codecommit = stack.client("repository", "codecommit")
    names = [one["repositoryName"] for one in codecommit.list_repositories()["repositories"]]
    if REPOSITORY not in names:
        codecommit.create_repository(repositoryName=REPOSITORY)


def pipeline(profile, outputs, source_role):
    """The pipeline `shop` of an account: the pinned commit from the repository account, then its stack."""
    account = ACCOUNTS[profile]
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
                        "actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"},
                        "roleArn": source_role,
                        "configuration": {"RepositoryName": REPOSITORY, "BranchName": "main", "PollForSourceChanges": "false"},
                        "outputArtifacts": [{"name": "Source"}],
                    }
                ],
            },
            {"name": "Deploy", "actions": [_change_set(account, 1, "CHANGE_SET_REPLACE"), _change_set(account, 2, "CHANGE_SET_EXECUTE")]},
        ],
    }


def _change_set(account, order, mode):
    """One of the two steps in which the pipeline's role may change the application's stack."""
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


def _pipelines(stack):
    source_role = stack.outputs("repository")["SourceActionRoleArn"]
    for profile in ("test", "production"):
        client = stack.client(profile, "codepipeline")
        wanted = pipeline(profile, stack.outputs(profile), source_role)
        if PIPELINE in [one["name"] for one in client.list_pipelines()["pipelines"]]:
            client.update_pipeline(pipeline=wanted)
        else:
            client.create_pipeline(pipeline=wanted)


def _person(stack):
    """Who is let in: a user who may do nothing, and whom the template's function may grant access."""
    iam = stack.client("production", "iam")
    try:
        iam.get_user(UserName=PERSON)
        return
    except iam.exceptions.NoSuchEntityException:
        pass
    iam.create_user(
        UserName=PERSON,
        PermissionsBoundary=stack.outputs("production")["AccessBoundaryArn"],
        Tags=[{"Key": "sekisho:access", "Value": "grantable"}],
    )
    key = iam.create_access_key(UserName=PERSON)["AccessKey"]
    _write(stack.places.config, _profile(stack, PERSON, key) + "\n" + stack.places.config.read_text())


def deploy(stack):
    _config(stack.places)
    for profile in ACCOUNTS:
        _deploy(stack, profile)
    with Step("Making the repository, the pipelines and the person"):
        _repository(stack)
        _pipelines(stack)
        _person(stack)


def _fresh(places, port):
    """A cloud just started, with administrators and nothing else; ended if that fails."""
    server.clear(places)
    places.folder.mkdir(parents=True, exist_ok=True)
    _config(places)
    cloud, port = server.start(places, port)
    try:
        stack = Stack(places, port)
        _administrators(stack)
    except BaseException:
        cloud.end()
        raise
    return cloud, stack


@contextmanager
def passing(folder):
    """A whole stack in a folder of its own that is gone afterwards, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    places = Places(folder)
    with alone(folder, f"Another run uses {folder}: wait until it has ended."):
        build()
        cloud, stack = _fresh(places, None)
        try:
            deploy(stack)
            yield stack
        finally:
            with Step("Ending the local cloud"):
                cloud.end()
        # After a failure it stays, for its logs.
        server.clear(places)


def up(port):
    """`make up`: starts the cloud unless it runs, deploys what has changed, and leaves it running."""
    LOCAL.mkdir(exist_ok=True)
    places = Places(LOCAL)
    with alone(LOCAL, "Another `make up` or `make down` is under way: wait until it has ended."):
        about = server.running(places)
        if about and port and about["port"] != port:
            raise Failure(f"The local cloud runs at port {about['port']} already: `make down` first to have it at {port}.")
        if port and not about:
            server.free_port(port)  # said before the build, not after it
        build()
        if about:
            deploy(Stack(places, about["port"]))
        else:
            cloud, stack = _fresh(places, port)
            try:
                deploy(stack)
                server.remember(places, cloud, int(stack.endpoint.rpartition(":")[2]))
                cloud.let_go()
            except BaseException:
                cloud.end()
                raise
    _explain(places)


def _explain(places):
    config = places.config.relative_to(ROOT)
    print()
    for profile, account in {**ACCOUNTS, PERSON: ACCOUNTS["production"]}.items():
        print(f"  profile {profile:<12} account {account}")
    print(
        f"""
The local cloud is up. Profiles are in {config}, for example:
  AWS_CONFIG_FILE={config} {tool('aws').relative_to(ROOT)} --profile production \\
    lambda invoke --function-name temp-access --payload '{{"user":"{PERSON}","minutes":5}}' /dev/stdout
  git clone {(places.repositories / REPOSITORY).relative_to(ROOT)}.git
`make down` ends it."""
    )
