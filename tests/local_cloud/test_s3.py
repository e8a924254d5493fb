"""The patches to S3: permissions for keys, a change of an object's key in place, and versions in events."""

import json
import re
from functools import partial

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, TEST, allow, code, document
from tools.layout import REGION


@pytest.fixture(scope="module")
def held(cloud):
    """A versioned bucket and a key of production. The key's policy leaves all limits to the account's IAM policies."""
    s3, kms = cloud.client("s3", PRODUCTION), cloud.client("kms", PRODUCTION)
    key = kms.create_key(Policy=document([allow("kms:*", Principal={"AWS": PRODUCTION})]))["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket="held", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="held", VersioningConfiguration={"Status": "Enabled"})
    return s3, key


def test_a_bucket_policy_can_require_the_key(held):
    s3, key = held
    s3.create_bucket(Bucket="strict", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_policy(
        Bucket="strict",
        Policy=document(
            [
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:PutObject",
                    "Resource": "arn:aws:s3:::strict/*",
                    "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": key}},
                }
            ]
        ),
    )
    kms = {"ServerSideEncryption": "aws:kms"}
    for encryption in ({}, {"ServerSideEncryption": "AES256"}, kms, kms | {"SSEKMSKeyId": "alias/aws/s3"}):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="strict", Key="a", Body=b"1", **encryption)
        assert code(caught) == "AccessDenied", encryption
        with pytest.raises(ClientError) as caught:
            s3.create_multipart_upload(Bucket="strict", Key="a", **encryption)
        assert code(caught) == "AccessDenied", encryption
    s3.put_object(Bucket="strict", Key="a", Body=b"1", **kms, SSEKMSKeyId=key)
    upload = s3.create_multipart_upload(Bucket="strict", Key="b", **kms, SSEKMSKeyId=key)["UploadId"]
    part = s3.upload_part(Bucket="strict", Key="b", UploadId=upload, PartNumber=1, Body=b"1")["ETag"]
    s3.complete_multipart_upload(
        Bucket="strict", Key="b", UploadId=upload, MultipartUpload={"Parts": [{"ETag": part, "PartNumber": 1}]}
    )
    assert s3.head_object(Bucket="strict", Key="b")["SSEKMSKeyId"] == key


def test_a_bucket_of_a_stack_has_the_default_encryption_of_its_template(cloud, held):
    s3, key = held

    def deploy(**properties):
        bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "of-a-stack", **properties}}
        assert cloud.stack(PRODUCTION, "bucket", {"Bucket": bucket}) in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        (rule,) = s3.get_bucket_encryption(Bucket="of-a-stack")["ServerSideEncryptionConfiguration"]["Rules"]
        return rule["ApplyServerSideEncryptionByDefault"], rule["BucketKeyEnabled"]

    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rule = {"BucketKeyEnabled": True, "ServerSideEncryptionByDefault": default}
    assert deploy(BucketEncryption={"ServerSideEncryptionConfiguration": [rule]}) == (default, True)
    s3.put_object(Bucket="of-a-stack", Key="a", Body=b"1")
    assert s3.head_object(Bucket="of-a-stack", Key="a")["SSEKMSKeyId"] == key
    assert deploy() == ({"SSEAlgorithm": "AES256"}, False)


def test_a_bucket_policy_can_deny_the_headers_that_are_wrong(held):
    """A write without headers, and each part of an upload, uses the default key of the bucket."""
    s3, key = held
    s3.create_bucket(Bucket="lenient", CreateBucketConfiguration={"LocationConstraint": REGION})
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket="lenient",
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    sse = "s3:x-amz-server-side-encryption"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::lenient/*"}
    conditions = [
        {"StringNotEquals": {f"{sse}-aws-kms-key-id": key}, "Null": {f"{sse}-aws-kms-key-id": "false"}},
        {"StringNotEquals": {sse: "aws:kms"}, "Null": {sse: "false"}},
        {"StringEquals": {sse: "aws:kms"}, "Null": {f"{sse}-aws-kms-key-id": "true"}},
        {"Null": {f"{sse}-customer-algorithm": "false"}},
    ]
    s3.put_bucket_policy(Bucket="lenient", Policy=document([deny | {"Condition": one} for one in conditions]))
    kms = {"ServerSideEncryption": "aws:kms"}
    for encryption in (
        {"ServerSideEncryption": "AES256"},
        kms,
        kms | {"SSEKMSKeyId": "alias/aws/s3"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
    ):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="lenient", Key="a", Body=b"1", **encryption)
        assert code(caught) == "AccessDenied", encryption
    for encryption in ({}, kms | {"SSEKMSKeyId": key}):
        s3.put_object(Bucket="lenient", Key="a", Body=b"1", **encryption)
        assert s3.head_object(Bucket="lenient", Key="a")["SSEKMSKeyId"] == key
    upload = s3.create_multipart_upload(Bucket="lenient", Key="b")["UploadId"]
    part = s3.upload_part(Bucket="lenient", Key="b", UploadId=upload, PartNumber=1, Body=b"1")["ETag"]
    s3.complete_multipart_upload(
        Bucket="lenient", Key="b", UploadId=upload, MultipartUpload={"Parts": [{"ETag": part, "PartNumber": 1}]}
    )


def test_a_condition_limits_writes_to_the_buckets_of_an_account(cloud, held):
    s3, _ = held
    for service, bucket in ((s3, "wanted-1"), (cloud.client("s3", TEST), "wanted-2")):
        service.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        principal = {"AWS": f"arn:aws:iam::{REPOSITORY}:root"}
        resource = f"arn:aws:s3:::{bucket}/*"
        service.put_bucket_policy(
            Bucket=bucket, Policy=document([allow("s3:PutObject", resource, Principal=principal)])
        )
    limit = {"StringEquals": {"aws:ResourceAccount": PRODUCTION}}
    may = allow("s3:PutObject", "arn:aws:s3:::wanted-*/*", Condition=limit)
    writer = cloud.client("s3", credentials=cloud.user(REPOSITORY, "limited", [may]))
    writer.put_object(Bucket="wanted-1", Key="a", Body=b"1")
    with pytest.raises(ClientError) as caught:
        writer.put_object(Bucket="wanted-2", Key="a", Body=b"1")
    assert code(caught) == "AccessDenied"


def test_writing_and_reading_need_the_key(cloud, held):
    s3, key = held
    encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    s3.put_object(Bucket="held", Key="secret", Body=b"1", **encrypted)
    everything = allow("s3:*")
    for name, statement, writes, reads in (
        ("without", everything, False, False),
        ("writer", allow("kms:GenerateDataKey", key), True, False),
        (
            "reader",
            allow("kms:Decrypt", key, Condition={"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}),
            False,
            True,
        ),
    ):
        user = cloud.client("s3", credentials=cloud.user(PRODUCTION, name, [everything, statement]))
        for may, call in (
            (writes, partial(user.put_object, Bucket="held", Key=name, Body=b"2", **encrypted)),
            (reads, partial(user.get_object, Bucket="held", Key="secret")),
            (
                reads,
                partial(
                    user.copy_object, Bucket="held", Key="copy", CopySource="held/secret", ServerSideEncryption="AES256"
                ),
            ),
        ):
            if may:
                call()
            else:
                with pytest.raises(ClientError) as caught:
                    call()
                assert code(caught) == "AccessDenied" and "kms:" in str(caught.value)
        assert user.head_object(Bucket="held", Key="secret")["SSEKMSKeyId"] == key


def test_a_managed_key_belongs_to_the_writers_account(cloud, held):
    s3, _ = held
    s3.put_bucket_policy(
        Bucket="held", Policy=document([allow("s3:PutObject", "arn:aws:s3:::held/*", Principal={"AWS": TEST})])
    )
    cloud.client("s3", TEST).put_object(Bucket="held", Key="foreign", Body=b"1", ServerSideEncryption="aws:kms")
    key = s3.head_object(Bucket="held", Key="foreign")["SSEKMSKeyId"]
    about = cloud.client("kms", TEST).describe_key(KeyId=key)["KeyMetadata"]
    assert (about["AWSAccountId"], about["KeyManager"]) == (TEST, "AWS")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="held", Key="foreign")
    assert code(caught) == "AccessDenied"
    s3.put_object(Bucket="held", Key="own", Body=b"1", ServerSideEncryption="aws:kms")
    assert s3.get_object(Bucket="held", Key="own")["Body"].read() == b"1"


def test_a_disabled_or_deleted_key_cannot_be_used(cloud, held):
    s3, _ = held
    kms = cloud.client("kms", PRODUCTION)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/going", TargetKeyId=key)
    encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/going"}
    s3.put_object(Bucket="held", Key="gone", Body=b"1", **encrypted)
    assert s3.head_object(Bucket="held", Key="gone")["SSEKMSKeyId"] == key
    for change, expected in (
        (kms.disable_key, "KMS.DisabledException"),
        (partial(kms.schedule_key_deletion, PendingWindowInDays=7), "KMS.KMSInvalidStateException"),
    ):
        change(KeyId=key)
        for call in (
            lambda: s3.get_object(Bucket="held", Key="gone", Range="bytes=0-0"),
            lambda: s3.put_object(Bucket="held", Key="gone", Body=b"2", **encrypted),
        ):
            with pytest.raises(ClientError) as caught:
                call()
            assert code(caught) == expected
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="held", Key="gone", Body=b"2", ServerSideEncryption="aws:kms", SSEKMSKeyId=key[:-1] + "x")
    assert code(caught) == "KMS.NotFoundException"


def test_encryption_changes_in_place(cloud, held):
    s3, key = held
    old = s3.put_object(Bucket="held", Key="moved", Body=b"old", ServerSideEncryption="AES256")["VersionId"]
    s3.put_object(Bucket="held", Key="moved", Body=b"new", ServerSideEncryption="AES256")
    before = s3.head_object(Bucket="held", Key="moved", VersionId=old)
    encryption = {"SSEKMS": {"KMSKeyArn": key}}
    s3.update_object_encryption(Bucket="held", Key="moved", VersionId=old, ObjectEncryption=encryption)
    after = s3.head_object(Bucket="held", Key="moved", VersionId=old)
    assert (after["ServerSideEncryption"], after["SSEKMSKeyId"]) == ("aws:kms", key)
    assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
    assert s3.get_object(Bucket="held", Key="moved", VersionId=old)["Body"].read() == b"old"
    assert s3.head_object(Bucket="held", Key="moved")["ServerSideEncryption"] == "AES256"
    s3.update_object_encryption(Bucket="held", Key="moved", ObjectEncryption=encryption)
    assert s3.get_object(Bucket="held", Key="moved")["Body"].read() == b"new"
    assert len(s3.list_object_versions(Bucket="held", Prefix="moved")["Versions"]) == 2
    theirs = cloud.client("kms", TEST).create_key(Policy=document([allow("kms:*", Principal={"AWS": "*"})]))
    for arn, expected in (
        (f"arn:aws:kms:{REGION}:{PRODUCTION}:alias/a", "InvalidRequest"),
        (theirs["KeyMetadata"]["Arn"], "AccessDenied"),
    ):
        with pytest.raises(ClientError) as caught:
            s3.update_object_encryption(Bucket="held", Key="moved", ObjectEncryption={"SSEKMS": {"KMSKeyArn": arn}})
        assert code(caught) == expected
    unable = cloud.client("s3", credentials=cloud.user(PRODUCTION, "unable", [allow(["s3:PutObject", "kms:*"])]))
    with pytest.raises(ClientError) as caught:
        unable.update_object_encryption(Bucket="held", Key="moved", ObjectEncryption=encryption)
    assert "s3:UpdateObjectEncryption" in str(caught.value)


def test_an_event_names_the_version(cloud, held):
    s3, _ = held
    url, queue = cloud.queue(PRODUCTION, "objects")
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name="objects", EventPattern=json.dumps({"source": ["aws.s3"]}))
    events.put_targets(Rule="objects", Targets=[{"Id": "queue", "Arn": queue}])
    s3.put_bucket_notification_configuration(Bucket="held", NotificationConfiguration={"EventBridgeConfiguration": {}})
    version = s3.put_object(Bucket="held", Key="日本 語", Body=b"1")["VersionId"]
    (event,) = cloud.messages(PRODUCTION, url)
    assert event["detail-type"] == "Object Created" and event["detail"]["reason"] == "PutObject"
    assert (event["detail"]["object"]["key"], event["detail"]["object"]["version-id"]) == ("日本 語", version)
    assert re.fullmatch("[0-9A-F]+", event["detail"]["object"]["sequencer"])


def test_many_copies_of_an_object_are_written_at_once(cloud, held):
    s3, key = held
    s3.put_object(Bucket="held", Key="many/0", Body=b"many", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
    cloud.post(f"copies/{PRODUCTION}/held/many/0", "\n".join(f"many/{number}" for number in range(1, 1200)))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="held", Prefix="many/")
    assert sum(len(page["Contents"]) for page in pages) == 1200
    first, last = (s3.head_object(Bucket="held", Key=f"many/{number}") for number in (0, 1199))
    assert last["SSEKMSKeyId"] == key and last["VersionId"] != first["VersionId"]
    assert s3.get_object(Bucket="held", Key="many/1199")["Body"].read() == b"many"
