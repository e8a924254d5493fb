"""The action Deploy by S3 puts the files of an artifact into a bucket, with the rights of the pipeline's role alone."""

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import TEST, allow, document
from tests.local_cloud.delivery import Delivery
from tools.layout import REGION


def files(order: int, **configuration) -> dict:
    return {
        "name": "Files",
        "runOrder": order,
        "inputArtifacts": [{"name": "SourceArtifact"}],
        "actionTypeId": {"category": "Deploy", "owner": "AWS", "provider": "S3", "version": "1"},
        "configuration": configuration,
    }


class Site:
    """A bucket under a key of its own, and a pipeline that deploys files to it."""

    def __init__(self, cloud, tmp_path, name: str):
        self.cloud, self.name = cloud, name
        self.clone = cloud.repository(name, tmp_path)
        self.delivery = Delivery(cloud, TEST, name)
        self.s3, self.bucket = self.delivery.s3, f"{name}-files"
        root = {"AWS": f"arn:aws:iam::{TEST}:root"}
        key = cloud.client("kms", TEST).create_key(Policy=document([allow("kms:*", Principal=root)]))
        self.key = key["KeyMetadata"]["Arn"]
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        encryption = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": self.key}
        self.s3.put_bucket_encryption(
            Bucket=self.bucket,
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": encryption}]},
        )

    def permit(self, *statements: dict) -> None:
        """Gives the pipeline's role these permissions besides those that every pipeline of these tests needs."""
        iam, role = self.cloud.client("iam", TEST), f"{self.name}-pipeline"
        if statements:
            iam.put_role_policy(RoleName=role, PolicyName="files", PolicyDocument=document(list(statements)))

    def create(self, **configuration) -> None:
        whole = {"BucketName": self.bucket, "Extract": "true", "ObjectKey": "release"} | configuration
        action = files(1, **{key: value for key, value in whole.items() if value is not None})
        self.delivery.client.create_pipeline(pipeline=self.delivery.structure(action))

    def push(self, content: dict) -> str:
        commit = self.clone.commit(content, "Change the page")
        self.clone.push("main")
        return commit

    def keys(self) -> list[str]:
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    @property
    def writes(self) -> dict:
        return allow("s3:PutObject", f"arn:aws:s3:::{self.bucket}/release/*")

    @property
    def encrypts(self) -> dict:
        return allow(["kms:Decrypt", "kms:GenerateDataKey"], self.key)


def test_the_files_are_extracted_under_the_key_of_the_bucket(cloud, tmp_path):
    site = Site(cloud, tmp_path, "extracted")
    site.permit(site.writes, site.encrypts)
    site.create()
    first = site.push({"index.html": "one", "pictures/a b.svg": "<svg/>"})
    assert site.delivery.ended(site.delivery.start(first))["status"] == "Succeeded"
    assert site.keys() == ["release/index.html", "release/pictures/a b.svg"]
    found = site.s3.get_object(Bucket=site.bucket, Key="release/index.html")
    assert (found["Body"].read(), found["SSEKMSKeyId"]) == (b"one", site.key)
    # A file that the next commit lacks stays, as on AWS.
    second = site.push({"index.html": "two", "pictures/a b.svg": None, "more.html": "more"})
    assert site.delivery.ended(site.delivery.start(second))["status"] == "Succeeded"
    assert site.keys() == ["release/index.html", "release/more.html", "release/pictures/a b.svg"]
    assert site.s3.get_object(Bucket=site.bucket, Key="release/index.html")["Body"].read() == b"two"


def test_without_extract_the_artifact_itself_is_put(cloud, tmp_path):
    site = Site(cloud, tmp_path, "archived")
    site.permit(site.writes, site.encrypts)
    site.create(Extract="false", ObjectKey="release/site.zip")
    assert site.delivery.ended(site.delivery.start(site.push({"index.html": "one"})))["status"] == "Succeeded"
    assert site.keys() == ["release/site.zip"]
    assert site.s3.get_object(Bucket=site.bucket, Key="release/site.zip")["Body"].read(2) == b"PK"


def test_the_role_needs_the_prefix_and_the_key(cloud, tmp_path):
    site = Site(cloud, tmp_path, "refused")
    site.create()
    commit = site.push({"index.html": "one"})
    for permitted, denied in (
        ([], "perform: s3:PutObject"),
        ([site.writes], "kms:GenerateDataKey"),
        (
            [site.writes | {"Resource": f"arn:aws:s3:::{site.bucket}/released/*"}, site.encrypts],
            "perform: s3:PutObject",
        ),
    ):
        site.permit(*permitted)
        assert denied in site.delivery.error(site.delivery.start(commit), "Files")
    assert site.keys() == []


@pytest.mark.parametrize(
    ("name", "configuration", "problem"),
    [
        ("public", {"CannedACL": "public-read"}, "does not know CannedACL"),
        ("keyless", {"Extract": "false", "ObjectKey": None}, "ObjectKey is required"),
        ("bucketless", {"BucketName": "nobodys-files"}, "does not exist"),
    ],
)
def test_a_wrong_configuration_fails_the_action(cloud, tmp_path, name, configuration, problem):
    site = Site(cloud, tmp_path, name)
    site.permit(site.writes | {"Resource": "*"}, site.encrypts)
    site.create(**configuration)
    assert problem in site.delivery.error(site.delivery.start(site.push({"a": "a"})), "Files")
    with pytest.raises(ClientError):
        site.s3.head_object(Bucket=site.bucket, Key="release/a")
