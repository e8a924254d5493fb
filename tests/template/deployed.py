"""The template as SAM expands it, deployed to accounts of a local cloud, which resolves its conditions and names."""

import io
import json
import signal
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tests.local_cloud.accounts import start
from tools.layout import IDENTITY_STORE, REGION, ROOT, STACK
from tools.ports import free_port

TEMPLATE = ROOT / "template.yaml"
BOOTSTRAP, BOOTSTRAP_STACK = ROOT / "bootstrap" / "deploy-role.yaml", "sekisho-deploy"
IMAGES, IMAGES_STACK = ROOT / "bootstrap" / "image-repository.yaml", "sekisho-image-repository"
WORKSTATION, WORKSTATION_STACK = ROOT / "bootstrap" / "workstation.yaml", "sekisho-workstation"
CENTER, CENTER_STACK = ROOT / "bootstrap" / "identity-center.yaml", "sekisho-identity-center-{}"
PERSON, PERSON_STACK = ROOT / "bootstrap" / "person.yaml", "sekisho-door-{}"
CODE = "placeholder"

# The accounts of samconfig.toml, with every parameter that adds a policy. The further accounts satisfy other conditions
# of the template, and so have other policies.
PARTNERS = {"RepositoryAccountId": "111111111111", "PipelineAccountIds": "222222222222,333333333333"}
ORG_UNIT = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/"
OTHER_UNIT = "o-a1b2c3d4e5/*/ou-ab12-33333333/"
TEAMS = {
    "TeamsTenantId": "1a2b3c4d-1a2b-1a2b-1a2b-1a2b3c4d5e6f",
    "TeamsTeamId": "6f5e4d3c-6f5e-6f5e-6f5e-6f5e4d3c2b1a",
    "TeamsChannelId": "19%3Aab12cd34%40thread.tacv2",
}
ACCOUNTS = {
    "111111111111": PARTNERS
    | {
        "HostsRepositories": "true",
        "ImageRepositoryName": "shop",
        "ImageReaderOrgPaths": f"{ORG_UNIT},{OTHER_UNIT}",
    },
    "222222222222": PARTNERS | {"HostsPipelines": "true", "ArtifactWrites": "repair"},
    "333333333333": PARTNERS
    | {
        "HostsPipelines": "true",
        "GrantsAccess": "true",
        "ManagesPipeline": "true",
        "RequiresApproval": "true",
        "DeployBucketName": "shop-files",
        "ImageRepositoryName": "shop",
        "AssumableRoleArns": "arn:aws:iam::999999999999:role/support",
        "ArtifactConsumerRoleArn": "arn:aws:iam::333333333333:role/consumer,arn:aws:iam::222222222222:role/reader",
        "SlackWorkspaceId": "T07EA123LEP",
        "SlackChannelId": "C07EZ1ABC23",
        "ApproverSlackChannelId": "C07EZ1ABC24",
        "IdentityStoreId": IDENTITY_STORE,
        "IdentityCenterRegion": REGION,
        "HubAccountId": "444444444444",
    },
    # An account with all duties, which has no AssumableRoleArns. Its people ask for access to production, too.
    "444444444444": {"HostsRepositories": "true", "HostsPipelines": "true", "GrantsAccess": "true"},
    # A pipeline account whose repositories are in another region, and whose application needs more than functions.
    "555555555555": {
        "HostsPipelines": "true",
        "RepositoryAccountId": "111111111111",
        "RepositoryRegion": "eu-west-1",
        "ApplicationPolicyArn": "arn:aws:iam::555555555555:policy/shop",
    },
    # A repository account for pipelines in an organizational unit, with Microsoft Teams but without access.
    "666666666666": {"HostsRepositories": "true", "PipelineOrgPath": ORG_UNIT} | TEAMS,
}


def source():
    """Returns the committed template, parsed."""
    return yaml_parse(TEMPLATE.read_text())


def expanded():
    """Returns the template as CloudFormation sees it after the transform, with its intrinsics and conditions."""
    template = source()
    template["Globals"]["Function"]["CodeUri"] = {"Bucket": CODE, "Key": CODE}
    template["Resources"]["Config"]["Properties"]["ContentUri"] = {"Bucket": CODE, "Key": CODE}
    session = boto3.Session(region_name=REGION)
    return Translator({}, Parser(), boto_session=session).translate(template, {}, {})


class Deployed:
    """A local cloud to which stacks are deployed."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def client(self, account, service, region=REGION):
        """Returns a client of the account's root user, whose access key in the emulator is the account's id."""
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="root",
        )

    def deploy(self, account, parameters, template=None):
        """Deploys the expanded template, and returns the stack's outputs."""
        s3 = self.client(account, "s3")
        s3.create_bucket(Bucket=f"{CODE}-{account}", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=f"{CODE}-{account}", Key=CODE, Body=_placeholder())
        return self._create(account, STACK, parameters, TemplateURL=self._uploaded(account, template))

    def update(self, account, parameters, template):
        """Updates the stack to these parameters and this template."""
        cloudformation = self.client(account, "cloudformation")
        cloudformation.update_stack(
            StackName=STACK,
            TemplateURL=self._uploaded(account, template),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_update_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def _uploaded(self, account, template):
        text = json.dumps(template or expanded()).replace(f'"S3Bucket": "{CODE}"', f'"S3Bucket": "{CODE}-{account}"')
        self.client(account, "s3").put_object(Bucket=f"{CODE}-{account}", Key="template", Body=text)
        return f"{self.endpoint}/{CODE}-{account}/template"

    def bootstrap(self, account, deployer, **more):
        """Deploys the role for deployment.

        A role and some users of the account `deployer` may assume the role, and so may a role of its Identity Center.
        """
        who = ",".join(
            f"arn:aws:iam::{deployer}:{one}" for one in ("role/ci", "user/ops-*", "role/AWSReservedSSO_Deploy_*")
        )
        return self.bootstrap_with(account, {"DeployerAccountId": deployer, "DeployerArns": who} | more)

    def bootstrap_with(self, account, parameters):
        """Deploys the role for deployment with these parameters; returns the stack's outputs."""
        return self._create(account, BOOTSTRAP_STACK, parameters, TemplateBody=BOOTSTRAP.read_text())

    def image_repository(self, account, **parameters):
        """Deploys a further repository of images; returns the stack's outputs."""
        return self._create(account, IMAGES_STACK, parameters, TemplateBody=IMAGES.read_text())

    def workstation(self, account, **parameters):
        """Deploys the role of the instances from which people deploy; returns the stack's outputs."""
        return self._create(account, WORKSTATION_STACK, parameters, TemplateBody=WORKSTATION.read_text())

    def person(self, account, name, **parameters):
        """Deploys the role of whoever may use a door; returns the stack's outputs."""
        parameters = {"DoorName": name} | parameters
        return self._create(account, PERSON_STACK.format(name), parameters, TemplateBody=PERSON.read_text())

    def identity_center(self, administrator, account, **parameters):
        """Deploys the permission set for people, and its assignment to an account; returns the stack's outputs."""
        parameters = {"AccountId": account} | parameters
        return self._create(administrator, CENTER_STACK.format(account), parameters, TemplateBody=CENTER.read_text())

    def _create(self, account, stack, parameters, **template):
        cloudformation = self.client(account, "cloudformation")
        cloudformation.create_stack(
            StackName=stack,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            **template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def _placeholder():
    """Returns a zip that Lambda accepts. The program in it always fails, because no test invokes the function."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\nexit 1\n")
    return file.getvalue()


@contextmanager
def cloud():
    """Runs a separate local cloud, which ends with the context."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        process = start(Path(data), port)
        try:
            yield Deployed(f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
