"""A delivery path that is deployed to two accounts, and credentials for these accounts."""

import contextlib
import dataclasses
import io
import json

import pytest

from tests.local_cloud.accounts import document
from tests.template import deployed
from tests.template.deployed import BOOTSTRAP
from tests.tools.faults import PARAMETERS, PARAMETERS_OF_REPOSITORY, R, T, layer, with_layers
from tests.tools.runner import write_config
from tools.layout import CONFIG, REGION
from tools.operations import door_report, person
from tools.operations.environment import Environment, environment


@pytest.fixture(scope="session")
def cloud():
    """A cloud with the stack in two accounts: one has the repository, the other has the pipeline."""
    with deployed.cloud() as cloud:
        template = deployed.expanded()
        for one in (one for one in template["Resources"].values() if one["Type"] == "AWS::Lambda::LayerVersion"):
            one["Properties"]["Content"] = {"S3Bucket": {"Fn::Sub": "layers-${AWS::AccountId}"}, "S3Key": "config"}
        # The repository account comes first, because the pipeline account has a managed pipeline.
        for account, parameters in ((R, PARAMETERS_OF_REPOSITORY), (T, PARAMETERS)):
            s3 = cloud.client(account, "s3")
            location = {"LocationConstraint": REGION}
            s3.create_bucket(Bucket=f"layers-{account}", CreateBucketConfiguration=location)
            s3.put_object(Bucket=f"layers-{account}", Key="config", Body=layer(CONFIG.read_text()))
            cloud.deploy(account, deployed.PARTNERS | parameters, template)
        cloud.client(R, "codecommit").create_repository(repositoryName="shop")
        yield cloud


@pytest.fixture
def config(cloud, tmp_path):
    """An AWS config file in which each profile of samconfig.toml belongs to an administrator."""
    file = tmp_path / "aws-config"
    write_config(cloud, file, repository=R, test=T)
    return file


@pytest.fixture(scope="session")
def config_of_deployer(cloud, tmp_path_factory):
    """An AWS config file whose profiles assume the role of bootstrap/deploy-role.yaml."""
    for account in (R, T):
        deploy_bootstrap(cloud, account, f"arn:aws:iam::{R}:user/me")
    iam = cloud.client(R, "iam")
    roles = {
        name: f"arn:aws:iam::{account}:role/sekisho-deploy-{REGION}"
        for name, account in (("repository", R), ("test", T))
    }
    iam.create_user(UserName="me")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": list(roles.values())}
    iam.put_user_policy(UserName="me", PolicyName="deploys", PolicyDocument=document([statement]))
    key = iam.create_access_key(UserName="me")["AccessKey"]
    common = f"region = {REGION}\nendpoint_url = {cloud.endpoint}\n"
    secrets = f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    sections = [f"[profile me]\n{common}{secrets}"]
    sections += [f"[profile {name}]\n{common}role_arn = {role}\nsource_profile = me\n" for name, role in roles.items()]
    file = tmp_path_factory.mktemp("deployer") / "config"
    file.write_text("".join(sections))
    return file


def deploy_bootstrap(cloud, account, deployer):
    """Deploys the bootstrap template."""
    cloudformation = cloud.client(account, "cloudformation")
    cloudformation.create_stack(
        StackName="sekisho-deploy",
        TemplateBody=BOOTSTRAP.read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": "DeployerAccountId", "ParameterValue": R},
            {"ParameterKey": "DeployerArns", "ParameterValue": deployer},
        ],
    )
    waiter = cloudformation.get_waiter("stack_create_complete")
    waiter.wait(StackName="sekisho-deploy", WaiterConfig={"Delay": 1, "MaxAttempts": 30})


class Functions:
    """A fake of Lambda, which records the invocations and answers all of them alike."""

    def __init__(self, answer, **more):
        self.answer, self.more, self.invoked = answer, more, []

    def invoke(self, FunctionName, Payload):  # noqa: N803 (boto3's names)
        self.invoked.append((FunctionName, json.loads(Payload)))
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode())} | self.more


@pytest.fixture
def answering(monkeypatch):
    """Returns a function that lets event-relay of every environment answer as given, and returns the fake."""

    def answer(value, **more):
        functions = Functions(value, **more)
        monkeypatch.setattr(Environment, "session", lambda _: SessionOf(functions))
        return functions

    return answer


class SessionOf:
    def __init__(self, functions):
        self.functions = functions

    def client(self, service, **_settings):
        assert service == "lambda"
        return self.functions


@pytest.fixture
def access(cloud, tmp_path, monkeypatch):
    """The environment `test`, whose account grants access. Its profile belongs to an administrator."""
    config = tmp_path / "config"
    write_config(cloud, config, repository=R, test=T)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    found = environment("test")
    return dataclasses.replace(found, parameters=found.parameters | {"GrantsAccess": "true"})


@pytest.fixture
def configured(cloud, tmp_path, monkeypatch):
    """Returns a function that adds a text to the configuration, here and in the account."""
    with contextlib.ExitStack() as stack:

        def configure(text):
            whole = CONFIG.read_text() + text
            file = tmp_path / "sekisho.toml"
            file.write_text(whole)
            for module in (person, door_report):
                monkeypatch.setattr(module, "CONFIG", file)
            content = {"ZipFile": layer(whole)}
            functions = cloud.client(T, "lambda")
            version = functions.publish_layer_version(LayerName="sekisho-config", Content=content)["LayerVersionArn"]
            stack.callback(with_layers("temp-access", T, [version])(cloud))

        yield configure


@pytest.fixture
def hana(access, capsys):
    """Hana's door, which exists while the test runs."""
    person.make_person(access, "hana", None)
    capsys.readouterr()
    yield access
    person.remove_person(access, "hana")
