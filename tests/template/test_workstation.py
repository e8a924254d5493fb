"""bootstrap/workstation.yaml: a machine without access keys can assume the deploy roles of the named accounts only."""

import json
import subprocess
import urllib.error
import urllib.request

import parliament
import pytest

from tests.local_cloud.accounts import document
from tests.template import deployed, policies
from tests.template.test_template import lint
from tools.layout import REGION, tool
from tools.surroundings import clean_environment

WORK, NAMED, ALSO_NAMED, OTHER = "444444444444", "222222222222", "333333333333", "555555555555"
ROLE = f"sekisho-workstation-{REGION}"
PROFILE = """\
[profile sekisho-{account}]
role_arn = arn:aws:iam::{account}:role/sekisho-deploy-{region}
credential_source = Ec2InstanceMetadata
region = {region}
"""


@pytest.fixture(scope="module")
def cloud():
    """A cloud with a workstation for two named accounts, and with a deploy role in each of three accounts."""
    with deployed.cloud() as cloud:
        cloud.outputs = cloud.workstation(WORK, DeployAccountIds=f"{NAMED},{ALSO_NAMED}")
        for account in (NAMED, ALSO_NAMED, OTHER):
            cloud.bootstrap_with(account, {"DeployerAccountId": WORK, "DeployerArns": cloud.outputs["RoleArn"]})
        yield cloud


def attach(cloud, profile):
    """Attaches an instance profile of the account WORK to the instance."""
    with urllib.request.urlopen(f"{cloud.endpoint}/_local-cloud/instance/{WORK}/{profile}", b"", timeout=30):
        pass


@pytest.fixture
def call(cloud, tmp_path):
    """A function that runs the AWS CLI on the instance with a profile; `text` is the config that the person pasted."""
    attach(cloud, cloud.outputs["InstanceProfileName"])

    def call(text, profile, *command):
        config = tmp_path / "config"
        # The test adds only the endpoint to the config that the person pasted.
        config.write_text(text.replace("region =", f"endpoint_url = {cloud.endpoint}\nregion ="))
        env = clean_environment(
            HOME=str(tmp_path),  # the AWS CLI stores the sessions of roles there
            AWS_CONFIG_FILE=str(config),
            AWS_EC2_METADATA_DISABLED="false",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=cloud.endpoint,
        )
        words = [tool("aws"), "--profile", profile, *command]
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)

    return call


def test_the_template_is_clean():
    lint(str(deployed.WORKSTATION))


def test_parliament_finds_nothing(cloud):
    (policy,) = [one for one in policies.of(cloud, WORK, deployed.WORKSTATION_STACK) if one.kind == "identity"]
    assert parliament.analyze_policy_string(json.dumps(policy.document)).findings == []


def test_it_prints_the_profile_of_an_account(cloud):
    assert cloud.outputs["CliProfile"] == PROFILE.format(account=NAMED, region=REGION)
    assert cloud.outputs["RoleArn"] == f"arn:aws:iam::{WORK}:role/{ROLE}"
    other = cloud.workstation("666666666666", DeployAccountIds=NAMED, DeployRegion="eu-west-1")
    assert other["CliProfile"] == PROFILE.format(account=NAMED, region="eu-west-1")


def pasted(cloud, tmp_path):
    """Returns the AWS config file of a person who ran the command for all profiles in a shell."""
    env = clean_environment(HOME=str(tmp_path))
    subprocess.run(["sh", "-c", cloud.outputs["AddCliProfiles"]], env=env, timeout=60, check=True)
    return (tmp_path / ".aws" / "config").read_text()


def test_it_prints_the_command_that_adds_all_profiles(cloud, tmp_path):
    both = "".join(PROFILE.format(account=account, region=REGION) for account in (NAMED, ALSO_NAMED))
    assert pasted(cloud, tmp_path) == both
    assert pasted(cloud, tmp_path) == both + both, "what is in the file stays there"


def test_further_policies_are_attached(cloud):
    core = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    cloud.workstation("777777777777", DeployAccountIds=NAMED, PolicyArns=core)
    attached = cloud.client("777777777777", "iam").list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"]
    assert [one["PolicyArn"] for one in attached] == [core]
    assert cloud.client(WORK, "iam").list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"] == []


@pytest.mark.parametrize("account", [NAMED, ALSO_NAMED])
def test_the_pasted_profile_is_enough_to_deploy(cloud, call, tmp_path, account):
    done = call(pasted(cloud, tmp_path), f"sekisho-{account}", "sts", "get-caller-identity")
    assert done.returncode == 0, done.stderr
    who = f"arn:aws:sts::{account}:assumed-role/sekisho-deploy-{REGION}/"
    assert json.loads(done.stdout)["Arn"].startswith(who)


def test_an_account_that_is_not_named_is_out_of_reach(call):
    done = call(PROFILE.format(account=OTHER, region=REGION), f"sekisho-{OTHER}", "sts", "get-caller-identity")
    assert done.returncode != 0 and "AccessDenied" in done.stderr


def test_another_role_of_a_named_account_is_out_of_reach(cloud, call):
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{WORK}:root"}, "Action": "sts:AssumeRole"}
    iam = cloud.client(NAMED, "iam")
    iam.create_role(RoleName="administrator", AssumeRolePolicyDocument=document([trust]))
    text = PROFILE.format(account=NAMED, region=REGION).replace(f"sekisho-deploy-{REGION}", "administrator")
    done = call(text, f"sekisho-{NAMED}", "sts", "get-caller-identity")
    assert done.returncode != 0 and "AccessDenied" in done.stderr


def test_an_instance_with_another_role_may_not_deploy(cloud, call):
    iam = cloud.client(WORK, "iam")
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    for name, service in (("web", "ec2"), ("untrusted", "lambda")):
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document([trust]))
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=document([statement]))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    attach(cloud, "web")
    done = call(cloud.outputs["CliProfile"], f"sekisho-{NAMED}", "sts", "get-caller-identity")
    assert done.returncode != 0 and "AccessDenied" in done.stderr
    # EC2 can't assume a role that does not trust EC2, so the instance gets no credentials.
    attach(cloud, "untrusted")
    done = call(cloud.outputs["CliProfile"], f"sekisho-{NAMED}", "sts", "get-caller-identity")
    assert done.returncode != 0 and "No credentials found in credential_source" in done.stderr


def test_the_metadata_service_requires_a_token(cloud):
    attach(cloud, cloud.outputs["InstanceProfileName"])
    path = f"{cloud.endpoint}/latest/meta-data/iam/security-credentials/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(path, timeout=30)
