"""A person enters an MFA code only once: the code is enough for both accounts, for the next command, and for sam."""

import json

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import document
from tests.tools.faults import R, T
from tests.tools.runner import run
from tools.layout import REGION
from tools.operations import credentials

DEVICE = f"arn:aws:iam::{R}:mfa/me"


@pytest.fixture(scope="module")
def people(cloud):
    """The AWS config of a user who may assume a role in each account."""
    iam = cloud.client(R, "iam")
    iam.create_user(UserName="with-mfa")
    key = iam.create_access_key(UserName="with-mfa")["AccessKey"]
    roles = {"repository": f"arn:aws:iam::{R}:role/by-mfa", "test": f"arn:aws:iam::{T}:role/by-mfa"}
    allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": list(roles.values())}
    iam.put_user_policy(UserName="with-mfa", PolicyName="assumes", PolicyDocument=document([allowed]))
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{R}:root"}, "Action": "sts:AssumeRole"}
    for account in (R, T):
        cloud.client(account, "iam").create_role(RoleName="by-mfa", AssumeRolePolicyDocument=document([trust]))
    common = f"region = {REGION}\nendpoint_url = {cloud.endpoint}\n"
    return (
        f"[profile me]\n{common}"
        f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    ) + "".join(
        f"[profile {name}]\n{common}role_arn = {role}\nsource_profile = me\nmfa_serial = {DEVICE}\n"
        for name, role in roles.items()
    )


@pytest.fixture
def prompts(people, tmp_path, monkeypatch):
    """The list of prompts that a person sees during one new command, which has its own home folder."""
    (tmp_path / "config").write_text(people)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("HOME", str(tmp_path))
    seen: list[str] = []

    def getpass(prompt):
        seen.append(prompt)
        return "123456"

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr(credentials, "_FACTOR", credentials.SecondFactor())
    return seen


def account_of(profile):
    return credentials.session_of(profile, REGION).client("sts").get_caller_identity()["Account"]


def test_one_code_is_enough_for_both_accounts(prompts):
    assert [account_of(profile) for profile in ("repository", "test", "repository")] == [R, T, R]
    assert prompts == [f"Enter MFA code for {DEVICE}: "]


def test_the_next_command_and_sam_find_the_credentials_of_the_first(prompts, monkeypatch, tmp_path):
    account_of("test")
    monkeypatch.setattr(credentials, "_FACTOR", credentials.SecondFactor())
    assert (account_of("test"), len(prompts)) == (T, 1)
    cli, sam = (sorted((tmp_path / ".aws" / tool / "cache").iterdir()) for tool in ("cli", "boto"))
    assert [one.name for one in cli] == [one.name for one in sam]
    # The AWS CLI looks for this file, whose name botocore derives from the request.
    (file,) = cli
    assert json.loads(file.read_text())["AssumedRoleUser"]["Arn"].startswith(f"arn:aws:sts::{T}:assumed-role/by-mfa/")
    for one in cli:
        one.unlink()
    assert (account_of("test"), len(prompts)) == (T, 1)


def test_a_role_without_a_device_is_not_kept(people, prompts, tmp_path):
    (tmp_path / "config").write_text(people.replace(f"mfa_serial = {DEVICE}", ""))
    assert (account_of("test"), prompts) == (T, [])
    assert not (tmp_path / ".aws").exists()


def test_without_get_session_token_the_code_goes_to_the_role(cloud, prompts):
    iam = cloud.client(R, "iam")
    denied = document([{"Effect": "Deny", "Action": "sts:GetSessionToken", "Resource": "*"}])
    iam.put_user_policy(UserName="with-mfa", PolicyName="denies", PolicyDocument=denied)
    try:
        assert account_of("repository") == R
    finally:
        iam.delete_user_policy(UserName="with-mfa", PolicyName="denies")
    assert len(prompts) == 1


def test_a_refused_code_is_reported_with_the_message_of_aws():
    class Sts:
        def get_session_token(self, **_request):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "invalid MFA"}}, "GetSessionToken")

        def assume_role(self, **request):
            assert request["TokenCode"] == "000000"
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "invalid MFA"}}, "AssumeRole")

    create = credentials.SecondFactor().wrap(lambda *_service, **_source: Sts())
    with pytest.raises(ClientError, match="invalid MFA"):
        create("sts").assume_role(RoleArn="role", SerialNumber=DEVICE, TokenCode="000000")


KEYS = "[default]\naws_access_key_id = dummy\naws_secret_access_key = dummy\n"
ROLE = f"role_arn = arn:aws:iam::{T}:role/sekisho-deploy-{REGION}\n"
ON_INSTANCE = f"[profile test]\n{ROLE}credential_source = Ec2InstanceMetadata\n"
OF_DEFAULT = f"[profile test]\n{ROLE}source_profile = default\n"


@pytest.mark.parametrize(
    "config, problem",
    [
        (KEYS + ON_INSTANCE, "commands without a profile use the access keys under [default]"),
        (KEYS + OF_DEFAULT, "write credential_source = Ec2InstanceMetadata instead of source_profile = default"),
        (KEYS + f"[profile test]\n{ROLE}source_profile = me\n[profile me]\naws_access_key_id = AKIA\n", None),
        (ON_INSTANCE, None),
        ("[default]\nregion = eu-west-1\n" + OF_DEFAULT, None),
        (KEYS, None),
    ],
)
def test_keys_under_default_that_shadow_the_role_of_an_instance_are_noticed(monkeypatch, tmp_path, config, problem):
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    found = credentials.default_keys("test")
    assert (found is None) if problem is None else (found and problem in found), found


def test_doctor_says_why_placeholders_under_default_give_no_credentials(cloud, tmp_path):
    endpoint = f"region = {REGION}\nendpoint_url = {cloud.endpoint}\n"
    config = tmp_path / "config"
    config.write_text((KEYS + endpoint + OF_DEFAULT + endpoint).replace("dummy", "AKIAIOSFODNN7EXAMPLE"))
    code, output = run(config, "doctor", "test", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    assert code != 0
    assert "gives no credentials" in output and "Note: profile test uses the access keys under [default]" in output
