"""With DeployBucketName, the managed pipeline deploys the files of its source; the default changes nothing."""

import pathlib
import time
import zlib

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import allow, document
from tests.template import deployed
from tools.git import Clone
from tools.layout import REGION, ROOT

DUTIES = dict.fromkeys(["HostsRepositories", "HostsPipelines", "ManagesPipeline"], "true")
FILES = {
    "name": "Files",
    "runOrder": 4,
    "actionTypeId": {"category": "Deploy", "owner": "AWS", "provider": "S3", "version": "1"},
    "configuration": {"BucketName": "my.site-1", "Extract": "true", "ObjectKey": "release"},
    "inputArtifacts": [{"name": "Source"}],
}


@pytest.fixture(scope="module")
def cloud():
    with deployed.cloud() as cloud:
        yield cloud


def stages(cloud, account):
    """Returns the names of the actions in each stage, and the declarations of the actions by name."""
    structure = cloud.client(account, "codepipeline").get_pipeline(name="shop")["pipeline"]
    actions = {one["name"]: one for stage in structure["stages"] for one in stage["actions"]}
    return {stage["name"]: [one["name"] for one in stage["actions"]] for stage in structure["stages"]}, actions


def statements(cloud, account):
    iam = cloud.client(account, "iam")
    found = iam.get_role_policy(RoleName=f"sekisho-pipeline-{REGION}", PolicyName="pipeline")["PolicyDocument"]
    return {one["Sid"]: one for one in found["Statement"]}


def test_files_come_after_the_stack_or_instead_of_it(cloud):
    account, approved = "400000000021", {"RequiresApproval": "true"}
    outputs = cloud.deploy(account, DUTIES)
    assert stages(cloud, account)[0] == {"Source": ["Source"], "Build": ["Build"], "Deploy": ["ChangeSet", "Execute"]}
    assert "DeployFiles" not in statements(cloud, account)
    assert statements(cloud, account)["UseKey"]["Resource"] == outputs["ArtifactKeyArn"]

    given = DUTIES | approved | {"DeployBucketName": "my.site-1"}
    cloud.update(account, given, deployed.expanded())
    names, actions = stages(cloud, account)
    assert names["Deploy"] == ["ChangeSet", "Approval", "Execute", "Files"]
    assert actions["Files"] == FILES
    assert {name: one["runOrder"] for name, one in actions.items() if name in names["Deploy"]} == {
        "ChangeSet": 1,
        "Approval": 2,
        "Execute": 3,
        "Files": 4,
    }
    assert actions["Approval"]["configuration"]["CustomData"] == (
        f"Deploys commit #{{Source.CommitId}} of shop (main) in {account}.\n"
        "Change set shop of stack shop lists the changes.\nFiles: my.site-1/release/"
    )
    statement = statements(cloud, account)["DeployFiles"]
    assert (statement["Action"], statement["Resource"]) == ("s3:PutObject", "arn:aws:s3:::my.site-1/release/*")

    cloud.update(account, given | {"TemplatePath": ""}, deployed.expanded())
    names, actions = stages(cloud, account)
    assert names == {"Source": ["Source"], "Deploy": ["Approval", "Files"]}
    assert actions["Approval"]["configuration"] == {
        "CustomData": f"Deploys commit #{{Source.CommitId}} of shop (main) in {account}.\nFiles: my.site-1/release/",
        "ExternalEntityLink": f"https://{REGION}.console.aws.amazon.com/s3/buckets/my.site-1?prefix=release/",
    }
    resources = cloud.client(account, "cloudformation").describe_stack_resources(StackName="sekisho")["StackResources"]
    assert {one["LogicalResourceId"] for one in resources} & {"Build", "BuildLogs"} == set()


@pytest.mark.parametrize(
    ("parameters", "refused_by"),
    [
        ({"ManagesPipeline": "false", "DeployBucketName": "site"}, "rule FilesNeedThePipeline"),
        ({"TemplatePath": ""}, "rule PipelineDeploysSomething"),
        (
            {"TemplatePath": "", "DeployBucketName": "site", "ImageRepositoryName": "shop"},
            "rule PipelineDeploysSomething failed: An image is deployed by a stack",
        ),
        ({"DeployBucketName": "Site"}, "Parameter 'DeployBucketName'"),
        ({"DeployBucketName": "a..b"}, "Parameter 'DeployBucketName'"),
        ({"DeployBucketName": "192.168.0.1"}, "Parameter 'DeployBucketName'"),
        ({"DeployBucketName": "site/release"}, "Parameter 'DeployBucketName'"),
        # Objects in the artifact bucket expire.
        ({"DeployBucketName": f"sekisho-artifacts-400000000024-{REGION}"}, "Parameter 'DeployBucketName'"),
    ],
    ids=lambda given: "" if isinstance(given, str) else " ".join(f"{name}={value}" for name, value in given.items()),
)
def test_wrong_parameters_are_refused(cloud, parameters, refused_by):
    account = f"5{zlib.crc32(str(parameters).encode()) % 10**11:011}"
    with pytest.raises(ClientError, match=refused_by):
        cloud.deploy(account, DUTIES | parameters)


def execution(client):
    """Starts the pipeline, answers its approval, and returns how the execution and its actions ended."""
    which = {
        "pipelineName": "shop",
        "pipelineExecutionId": client.start_pipeline_execution(name="shop")["pipelineExecutionId"],
    }
    deadline = time.monotonic() + 30
    while (status := client.get_pipeline_execution(**which)["pipelineExecution"]["status"]) == "InProgress":
        assert time.monotonic() < deadline
        for stage in client.get_pipeline_state(name="shop")["stageStates"]:
            for action in stage["actionStates"]:
                if token := action.get("latestExecution", {}).get("token"):
                    answer = {"result": {"status": "Approved", "summary": "a test"}, "token": token}
                    client.put_approval_result(
                        pipelineName="shop", stageName=stage["stageName"], actionName=action["actionName"], **answer
                    )
        time.sleep(0.1)
    filter_ = {"pipelineExecutionId": which["pipelineExecutionId"]}
    found = client.list_action_executions(pipelineName="shop", filter=filter_)["actionExecutionDetails"]
    errors = [one["output"]["executionResult"].get("errorDetails", {}).get("message") for one in found]
    return status, [one for one in errors if one]


def test_the_example_is_deployed_after_its_approval_and_nowhere_else(cloud, tmp_path):
    """The roles and the pipeline are the template's, IAM is enforced, and the bucket has a key of its own."""
    account, bucket = "111111111111", "shop-site-111111111111"
    given = DUTIES | {
        "RequiresApproval": "true",
        "DeployBucketName": bucket,
        "TemplatePath": "",
        "ManagesRepository": "true",
    }
    cloud.deploy(account, given)
    client, s3 = cloud.client(account, "codepipeline"), cloud.client(account, "s3")
    repository = cloud.client(account, "codecommit").get_repository(repositoryName="shop")["repositoryMetadata"]
    clone = Clone(pathlib.Path(repository["cloneUrlHttp"]), tmp_path / "site")
    example = ROOT / "examples" / "site-s3"
    clone.commit({file.name: file.read_text() for file in example.iterdir()}, "Open the page", branch="main")
    clone.push("main")

    # Somebody else has a bucket of that name, which admits this account.
    stranger = cloud.client("400000000023", "s3")
    place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    stranger.create_bucket(Bucket=bucket, **place)
    principal = {"AWS": f"arn:aws:iam::{account}:root"}
    stranger.put_bucket_policy(
        Bucket=bucket, Policy=document([allow("s3:*", f"arn:aws:s3:::{bucket}/*", Principal=principal)])
    )
    status, errors = execution(client)
    assert status == "Failed" and "s3:PutObject" in errors[0]
    assert "Contents" not in stranger.list_objects_v2(Bucket=bucket)
    stranger.delete_bucket(Bucket=bucket)

    s3.create_bucket(Bucket=bucket, **place)
    key = cloud.client(account, "kms").create_key()["KeyMetadata"]["Arn"]
    own_key = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [own_key]})
    assert execution(client) == ("Succeeded", [])
    found = {one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert found == {f"release/{file.name}" for file in example.iterdir()}
    page = s3.get_object(Bucket=bucket, Key="release/index.html")
    assert (page["Body"].read(), page["SSEKMSKeyId"]) == ((example / "index.html").read_bytes(), key)
