"""The stand-in for S3 Batch Operations: jobs that update the encryption of objects, with the role's permissions."""

import json
import time
import uuid
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, allow, code, document
from tools.layout import REGION

SERVICE = "batchoperations.s3.amazonaws.com"
BUCKET, REPORTS = "batch", "arn:aws:s3:::batch"


def control(cloud, credentials=None):
    """A client of S3 Control. boto3 puts the account into the host's name, which an address can't have."""
    make_client: Any = boto3.client
    client = make_client(
        "s3control",
        region_name=REGION,
        endpoint_url=f"http://localhost:{cloud.port}",
        config=Config(retries={"total_max_attempts": 1}),
        **(credentials or cloud.administrators[PRODUCTION]),
    )

    def at_the_address(request, **_):
        request.url = request.url.replace(f"{PRODUCTION}.localhost", "127.0.0.1")

    client.meta.events.register("before-sign.s3-control", at_the_address)
    return client


@pytest.fixture(scope="module")
def job(cloud):
    """A bucket with objects under S3's own key, another key, and a role that may update the objects."""
    s3, kms = cloud.client("s3", PRODUCTION), cloud.client("kms", PRODUCTION)
    key = kms.create_key(Policy=document([allow("kms:*", Principal={"AWS": PRODUCTION})]))["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for name in ("a b/ü.zip", "one,two.zip", "three.zip"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
    may = ["s3:GetObject", "s3:PutObject", "s3:UpdateObjectEncryption", "kms:*"]
    role = cloud.role(PRODUCTION, "batch", {"Service": SERVICE}, [allow(may)])
    return s3, key, role


def created(cloud, s3, key, role, manifest, credentials=None, **more):
    etag = s3.put_object(Bucket=BUCKET, Key="manifest.csv", Body=manifest.encode())["ETag"]
    wanted = {"ObjectEncryption": {"SSEKMS": {"KMSKeyArn": key, "BucketKeyEnabled": True}}}
    arguments = {
        "AccountId": PRODUCTION,
        "ConfirmationRequired": False,
        "Operation": {"S3UpdateObjectEncryption": wanted},
        "Report": {
            "Bucket": REPORTS,
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "Prefix": "reports",
            "ReportScope": "AllTasks",
        },
        "ClientRequestToken": str(uuid.uuid4()),
        "Manifest": {
            "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
            "Location": {"ObjectArn": f"{REPORTS}/manifest.csv", "ETag": etag},
        },
        "Priority": 10,
        "RoleArn": role,
    }
    return control(cloud, credentials).create_job(**arguments | more)["JobId"]


def ended(cloud, identity):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = control(cloud).describe_job(AccountId=PRODUCTION, JobId=identity)["Job"]
        if found["Status"] in ("Complete", "Failed"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{found} after 20 s")


def test_a_job_changes_the_key_and_writes_its_report(cloud, job):
    s3, key, role = job
    manifest = f"{BUCKET},a%20b/%C3%BC.zip\n{BUCKET},one%2Ctwo.zip\n{BUCKET},gone.zip\n"
    identity = created(cloud, s3, key, role, manifest)
    found = ended(cloud, identity)
    assert (found["Status"], found["ProgressSummary"]["TotalNumberOfTasks"]) == ("Complete", 3), found
    assert (found["ProgressSummary"]["NumberOfTasksSucceeded"], found["ProgressSummary"]["NumberOfTasksFailed"]) == (
        2,
        1,
    )
    for name in ("a b/ü.zip", "one,two.zip"):
        head = s3.head_object(Bucket=BUCKET, Key=name)
        assert (head["SSEKMSKeyId"], head["ContentLength"]) == (key, len(name.encode()))
    assert "SSEKMSKeyId" not in s3.head_object(Bucket=BUCKET, Key="three.zip")
    report = s3.get_object(Bucket=BUCKET, Key=f"reports/job-{identity}/manifest.json")
    assert report["ServerSideEncryption"] == "AES256"
    results = {one["TaskExecutionStatus"]: one["Key"] for one in json.loads(report["Body"].read())["Results"]}
    rows = {status: s3.get_object(Bucket=BUCKET, Key=name)["Body"].read().decode() for status, name in results.items()}
    assert rows["succeeded"] == (
        f"{BUCKET},a%20b/%C3%BC.zip,,succeeded,200,,Successful\n{BUCKET},one%2Ctwo.zip,,succeeded,200,,Successful\n"
    )
    assert rows["failed"].startswith(f"{BUCKET},gone.zip,,failed,404,NoSuchKey,")


def test_a_job_fails_halfway_if_most_tasks_fail(cloud, job):
    s3, key, role = job
    manifest = f"{BUCKET},three.zip\n" + "".join(f"{BUCKET},gone-{number}.zip\n" for number in range(1200))
    identity = created(cloud, s3, key, role, manifest)
    found = ended(cloud, identity)
    progress = found["ProgressSummary"]
    assert (found["Status"], progress["NumberOfTasksSucceeded"], progress["NumberOfTasksFailed"]) == ("Failed", 1, 999)
    results = s3.get_object(Bucket=BUCKET, Key=f"reports/job-{identity}/manifest.json")["Body"].read()
    assert [one["TaskExecutionStatus"] for one in json.loads(results)["Results"]] == ["succeeded", "failed"]


def test_a_token_creates_one_job(cloud, job):
    s3, key, role = job
    token = str(uuid.uuid4())
    first, second = (created(cloud, s3, key, role, f"{BUCKET},three.zip\n", ClientRequestToken=token) for _ in range(2))
    assert first == second
    assert ended(cloud, first)["ProgressSummary"]["TotalNumberOfTasks"] == 1


def test_a_job_needs_the_permissions_of_its_role(cloud, job):
    s3, key, _ = job
    reader = cloud.role(PRODUCTION, "batch-reader", {"Service": SERVICE}, [allow(["s3:GetObject", "s3:PutObject"])])
    found = ended(cloud, created(cloud, s3, key, reader, f"{BUCKET},three.zip\n"))
    assert (found["Status"], found["ProgressSummary"]["NumberOfTasksFailed"]) == ("Complete", 1)
    of_lambda = cloud.role(PRODUCTION, "batch-lambda", {"Service": "lambda.amazonaws.com"}, [allow("*")])
    found = ended(cloud, created(cloud, s3, key, of_lambda, f"{BUCKET},three.zip\n"))
    assert (
        found["Status"] == "Failed"
        and "not authorized to perform AssumeRole" in found["FailureReasons"][0]["FailureReason"]
    )


def test_a_changed_manifest_fails_the_job(cloud, job):
    s3, key, role = job
    location = {"ObjectArn": f"{REPORTS}/manifest.csv", "ETag": '"0123"'}
    spec = {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]}
    found = ended(cloud, created(cloud, s3, key, role, "x", Manifest={"Spec": spec, "Location": location}))
    assert found["Status"] == "Failed" and "ETag" in found["FailureReasons"][0]["FailureReason"]


@pytest.mark.parametrize(
    ("statements", "refused"),
    [
        ([allow(["s3:CreateJob"])], True),
        ([allow(["iam:PassRole"])], True),
        (
            [allow("s3:CreateJob"), allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "x"}})],
            True,
        ),
        (
            [
                allow("s3:CreateJob"),
                allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": SERVICE}}),
            ],
            False,
        ),
    ],
)
def test_the_caller_needs_two_permissions(cloud, job, statements, refused):
    s3, key, role = job
    user = cloud.user(PRODUCTION, f"batch-{uuid.uuid4()}", statements)
    if refused:
        with pytest.raises(ClientError) as caught:
            created(cloud, s3, key, role, f"{BUCKET},three.zip\n", user)
        assert code(caught) == "AccessDenied"
    else:
        assert ended(cloud, created(cloud, s3, key, role, f"{BUCKET},three.zip\n", user))["Status"] == "Complete"


def test_another_account_and_unknown_jobs_are_refused(cloud, job):
    s3, key, role = job
    with pytest.raises(ClientError) as caught:
        control(cloud).describe_job(AccountId=PRODUCTION, JobId=str(uuid.uuid4()))
    assert code(caught) == "NoSuchJob"
    with pytest.raises(ClientError) as caught:
        created(cloud, s3, key, role, "x", ConfirmationRequired=True)
    assert code(caught) == "NotImplemented"
