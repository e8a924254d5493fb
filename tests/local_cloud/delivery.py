"""A pipeline account and the source role of the repository account, for the tests of pipelines."""

import time

import pytest

from tests.local_cloud.accounts import REPOSITORY, allow, document
from tools.layout import REGION

ENDED = ("Succeeded", "Failed", "Stopped", "Superseded", "Cancelled")


def properties(value):
    """Returns a pipeline's structure in the spelling of a template. The keys in a `configuration` stay unchanged."""
    if isinstance(value, list):
        return [properties(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key[0].upper() + key[1:]: one if key == "configuration" else properties(one) for key, one in value.items()}


class Delivery:
    """The bucket, key and roles of a pipeline account, and the source action's role in the repository account."""

    def __init__(self, cloud, account: str, name: str):
        self.cloud, self.account, self.name = cloud, account, name
        self.bucket = f"{name}-artifacts"
        self.pipeline_role = f"arn:aws:iam::{account}:role/{name}-pipeline"
        self.source_role = f"arn:aws:iam::{REPOSITORY}:role/{name}-source"
        self.kms, self.s3 = cloud.client("kms", account), cloud.client("s3", account)
        self.objects = f"arn:aws:s3:::{self.bucket}/*"
        self.key = self.create_key()
        self.create_bucket()
        self.create_roles()
        self.client = cloud.client("codepipeline", account)

    def create_key(self) -> str:
        """Creates the artifact key, which the pipeline's role and the source role may use."""
        created = self.kms.create_key(
            Policy=document(
                [
                    allow(
                        ["kms:DescribeKey", "kms:PutKeyPolicy"], Principal={"AWS": f"arn:aws:iam::{self.account}:root"}
                    ),
                    allow(
                        "kms:Decrypt",
                        Principal={"AWS": self.account},
                        Condition={"ArnEquals": {"aws:PrincipalArn": self.pipeline_role}},
                    ),
                    allow(
                        ["kms:GenerateDataKey", "kms:Decrypt"],
                        Principal={"AWS": REPOSITORY},
                        Condition={
                            "ArnEquals": {"aws:PrincipalArn": self.source_role},
                            "StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"},
                        },
                    ),
                ]
            )
        )
        return created["KeyMetadata"]["Arn"]

    def create_bucket(self) -> None:
        """Creates the artifact bucket, which admits the source role and refuses objects under other keys."""
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.s3.put_bucket_policy(
            Bucket=self.bucket,
            Policy=document(
                [
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:*",
                        "Resource": self.objects,
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:PutObject",
                        "Resource": self.objects,
                        "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": self.key}},
                    },
                    allow(
                        "s3:PutObject",
                        self.objects,
                        Principal={"AWS": REPOSITORY},
                        Condition={"ArnEquals": {"aws:PrincipalArn": self.source_role}},
                    ),
                ]
            ),
        )

    def create_roles(self) -> None:
        """Creates the roles of the pipeline, of CloudFormation and of the source action."""
        cloud, account, name = self.cloud, self.account, self.name
        stack = f"arn:aws:cloudformation:{REGION}:{account}:stack/{name}/*"
        cloud.role(
            account,
            f"{name}-pipeline",
            {"Service": "codepipeline.amazonaws.com"},
            [
                allow("sts:AssumeRole", self.source_role),
                allow("s3:GetObject", self.objects),
                allow("kms:Decrypt", self.key),
                allow("iam:PassRole", f"arn:aws:iam::{account}:role/{name}-deploy"),
                allow(
                    [
                        "cloudformation:CreateStack",
                        "cloudformation:UpdateStack",
                        "cloudformation:DescribeStacks",
                        "cloudformation:CreateChangeSet",
                        "cloudformation:DescribeChangeSet",
                        "cloudformation:DeleteChangeSet",
                        "cloudformation:ExecuteChangeSet",
                    ],
                    stack,
                ),
            ],
            Condition={"StringEquals": {"aws:SourceAccount": account}},
        )
        cloud.role(account, f"{name}-deploy", {"Service": "cloudformation.amazonaws.com"}, [allow("sns:*")])
        cloud.role(
            REPOSITORY,
            f"{name}-source",
            {"AWS": f"arn:aws:iam::{account}:root"},
            [
                allow(["codecommit:GetBranch", "codecommit:GetCommit", "codecommit:UploadArchive"]),
                allow("s3:PutObject", self.objects),
                allow("kms:GenerateDataKey", self.key),
            ],
            Condition={"ArnEquals": {"aws:PrincipalArn": self.pipeline_role}},
        )

    def structure(self, *deploy: dict, **changes) -> dict:
        source = {
            "name": "Source",
            "roleArn": self.source_role,
            "namespace": "Source",
            "actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"},
            "configuration": {"RepositoryName": self.name, "BranchName": "main", "PollForSourceChanges": "false"},
            "outputArtifacts": [{"name": "SourceArtifact"}],
        }
        deploy = deploy or (self.deploy("Deploy", 1, ActionMode="CREATE_UPDATE"),)
        return {
            "name": self.name,
            "roleArn": self.pipeline_role,
            "pipelineType": "V2",
            "artifactStore": {"type": "S3", "location": self.bucket, "encryptionKey": {"id": self.key, "type": "KMS"}},
            "stages": [{"name": "Source", "actions": [source]}, {"name": "Deploy", "actions": list(deploy)}],
        } | changes

    def deploy(self, name: str, order: int, **configuration) -> dict:
        return {
            "name": name,
            "runOrder": order,
            "inputArtifacts": [{"name": "SourceArtifact"}],
            "actionTypeId": {"category": "Deploy", "owner": "AWS", "provider": "CloudFormation", "version": "1"},
            "configuration": {
                "StackName": self.name,
                "TemplatePath": "SourceArtifact::app/template.json",
                "RoleArn": f"arn:aws:iam::{self.account}:role/{self.name}-deploy",
            }
            | configuration,
        }

    def start(self, commit: str | None = None, **more) -> str:
        pin = [{"actionName": "Source", "revisionType": "COMMIT_ID", "revisionValue": commit}] if commit else []
        return self.client.start_pipeline_execution(name=self.name, sourceRevisions=pin, **more)["pipelineExecutionId"]

    def ended(self, execution: str, seconds: float = 20) -> dict:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.client.get_pipeline_execution(pipelineName=self.name, pipelineExecutionId=execution)
            if found["pipelineExecution"]["status"] in ENDED:
                return found["pipelineExecution"]
            time.sleep(0.05)
        pytest.fail(f"execution {execution} did not end")

    def approval(self, **configuration) -> dict:
        """An approval action, which keeps an execution waiting until somebody answers."""
        return {
            "name": "Approval",
            "configuration": configuration,
            "actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
        }

    def answer(self, status: str) -> None:
        """Waits for the approval of the stage `Deploy`, and answers it."""
        for _ in range(200):
            actions = self.client.get_pipeline_state(name=self.name)["stageStates"][1]["actionStates"]
            (token,) = [
                one.get("latestExecution", {}).get("token") for one in actions if one["actionName"] == "Approval"
            ]
            if token:
                self.client.put_approval_result(
                    pipelineName=self.name,
                    stageName="Deploy",
                    actionName="Approval",
                    result={"status": status, "summary": "a test"},
                    token=token,
                )
                return
            time.sleep(0.05)
        pytest.fail("the approval has no token")

    def actions(self, execution: str) -> dict:
        found = self.client.list_action_executions(pipelineName=self.name, filter={"pipelineExecutionId": execution})
        return {action["actionName"]: action for action in found["actionExecutionDetails"]}

    def error(self, execution: str, action: str) -> str:
        assert self.ended(execution)["status"] == "Failed"
        return self.actions(execution)[action]["output"]["executionResult"]["errorDetails"]["message"]
