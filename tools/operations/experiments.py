"""The smoke checks that create temporary resources, test a fact with them, and remove them again.

No check touches an artifact, a grant or a repository of the stack. The only change to the stack itself is in one check,
which disables a rule and enables it again.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from tools.operations.facts import Place, Seen, document, eventually, fails, hidden, holds, uninterrupted, unique_name

# For each duty, a scheduled rule that a check may disable. No change waits for these rules, so no harm is done.
SCHEDULES = {
    "HostsRepositories": "sekisho-reconcile",
    "HostsPipelines": "sekisho-artifact-sweep",
    "GrantsAccess": "sekisho-access-sweep",
}
# The time for which a check waits until a change in IAM takes effect, which takes seconds to minutes.
LONGEST_GRANT_SECONDS = 120
ENCRYPTION = "s3:x-amz-server-side-encryption"
# The days until KMS deletes a key. KMS accepts no shorter time.
KEY_DAYS = 7


class Scratch(NamedTuple):
    """A temporary bucket, the right key, the wrong key (`other_key`), and a bucket policy that denies the wrong key."""

    bucket: str
    key: str
    other_key: str
    policy: str


@contextmanager
def _scratch(place: Place) -> Iterator[Scratch | None]:
    """Creates the temporary bucket and keys, and removes them at the end. The bucket has no policy yet.

    Yields None if the artifact bucket does not deny other keys.
    """
    s3, kms = place.client("s3"), place.client("kms")
    real, real_key = place.outputs["ArtifactBucketName"], place.outputs["ArtifactKeyArn"]
    statements = json.loads(s3.get_bucket_policy(Bucket=real)["Policy"])["Statement"]
    denies = [one for one in statements if one["Effect"] == "Deny" and ENCRYPTION in json.dumps(one.get("Condition"))]
    if not denies:
        yield None
        return
    with ExitStack() as stack:
        # The bucket is created first, so that credentials that may not create a bucket leave no keys behind.
        bucket, keys = f"{unique_name()}-{place.id}", []
        location = {} if place.region == "us-east-1" else {"LocationConstraint": place.region}
        with uninterrupted():
            s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": location} if location else {}))
            stack.callback(place.remove, f"bucket {bucket}", _delete_bucket, s3=s3, bucket=bucket)
        for _ in range(2):
            with uninterrupted():
                key = kms.create_key(Description=f"Smoke check of {place.target.stack}")["KeyMetadata"]["Arn"]
                stack.callback(
                    place.remove, f"key {key}", kms.schedule_key_deletion, KeyId=key, PendingWindowInDays=KEY_DAYS
                )
            keys.append(key)
        policy = document(*denies).replace(real_key, keys[0]).replace(real, bucket)
        yield Scratch(bucket, keys[0], keys[1], policy)


def _delete_bucket(s3: Any, bucket: str) -> None:
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for one in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=one["Key"])
    s3.delete_bucket(Bucket=bucket)


NO_DENY = "the artifact bucket denies no other keys here (ArtifactWrites=repair)"
NO_EFFECT = "the copied Deny let a wrong key pass for a minute"


def _put(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key="one", Body=b"one", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)


def _is_refused(operation: Callable[..., Any], *arguments: Any, **request: Any) -> ClientError | None:
    """The refusal of a call; None if the call succeeds."""
    try:
        operation(*arguments, **request)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return error
        raise
    return None


def _denies(s3: Any, scratch: Scratch) -> bool:
    """Sets the bucket's policy, and waits until the policy denies the wrong key; returns whether it does."""
    s3.put_bucket_policy(Bucket=scratch.bucket, Policy=scratch.policy)
    refused = eventually(lambda: _is_refused(_put, s3, scratch.bucket, scratch.other_key) is not None, 60)
    return refused is not None


def deny_lets_encryption_be_updated(place: Place) -> Seen:
    """Puts an object under a wrong key, denies that key, and changes the object's key in place."""
    s3 = place.client("s3")
    with _scratch(place) as scratch:
        if scratch is None:
            return hidden(NO_DENY)
        _put(s3, scratch.bucket, scratch.other_key)
        if not _denies(s3, scratch):
            return hidden(NO_EFFECT)
        wanted = {"SSEKMS": {"KMSKeyArn": scratch.key, "BucketKeyEnabled": True}}
        request = {"Bucket": scratch.bucket, "Key": "one", "ObjectEncryption": wanted}
        if refusal := _is_refused(s3.update_object_encryption, **request):
            return fails(str(refusal))
        found = s3.head_object(Bucket=scratch.bucket, Key="one").get("SSEKMSKeyId")
        if found != scratch.key:
            return fails(f"the call succeeded, but the object is under {found}")
        return holds("the object has the right key now")


def part_without_key_passes(place: Place) -> Seen:
    """Uploads an object in parts, without encryption headers, under a policy that denies other keys."""
    s3 = place.client("s3")
    with _scratch(place) as scratch:
        if scratch is None:
            return hidden(NO_DENY)
        if not _denies(s3, scratch):
            return hidden(NO_EFFECT)
        upload = {"Bucket": scratch.bucket, "Key": "parts"}
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": scratch.key}
        rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
        s3.put_bucket_encryption(Bucket=scratch.bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        # Some writers send no encryption headers, so this upload has none. A part has none even if the upload has some.
        begun = s3.create_multipart_upload(**upload)
        upload["UploadId"] = begun["UploadId"]
        if refusal := _is_refused(s3.upload_part, **upload, PartNumber=1, Body=b"one"):
            return fails(str(refusal))
        parts = [{"PartNumber": 1, "ETag": one["ETag"]} for one in s3.list_parts(**upload)["Parts"]]
        if refusal := _is_refused(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts}):
            return fails(str(refusal))
        found = s3.head_object(Bucket=scratch.bucket, Key="parts").get("SSEKMSKeyId")
        if found != scratch.key:
            return fails(f"the upload was completed, but the object is under {found}")
        return holds("the part was admitted, and the object is under the bucket's key")


class Pipeline(NamedTuple):
    """A temporary pipeline, its type, and a pin for its source action."""

    name: str
    kind: str | None
    pin: dict[str, str]


@contextmanager
def _pipeline(place: Place, kind: str) -> Iterator[Pipeline | None]:
    """Creates a temporary pipeline of this type, and removes it at the end.

    The pipeline's branch and the pinned commit do not exist, so every execution fails in its source action, and the
    bucket gets no artifact. This is also true for the execution that CodePipeline starts when it creates a pipeline.
    Yields None if no routed pipeline exists here, whose source could be used.
    """
    client, name = place.client("codepipeline"), unique_name()
    try:
        model = client.get_pipeline(name=place.routes[0].pipeline)["pipeline"]
        source = model["stages"][0]
        action = next(one for one in source["actions"] if one["actionTypeId"]["provider"] == "CodeCommit")
    except (IndexError, StopIteration, client.exceptions.PipelineNotFoundException):
        yield None
        return
    action["configuration"] |= {"BranchName": name}
    approval = {
        "name": "Wait",
        "actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
    }
    structure = {
        "name": name,
        "pipelineType": kind,
        "roleArn": model["roleArn"],
        "artifactStore": model["artifactStore"],
        "stages": [source | {"actions": [action]}, {"name": "Wait", "actions": [approval]}],
    }
    with ExitStack() as stack:
        with uninterrupted():
            made = client.create_pipeline(pipeline=structure)["pipeline"].get("pipelineType")
            stack.callback(place.remove, f"pipeline {name}", client.delete_pipeline, name=name)
        pin = {"actionName": action["name"], "revisionType": "COMMIT_ID", "revisionValue": "0" * 40}
        yield Pipeline(name, made, pin)


NO_PIPELINE = "no routed pipeline exists here, whose source could be used"


def v1_pipeline_refuses_pin(place: Place) -> Seen:
    """Creates a V1 pipeline, and starts it with a pin."""
    client = place.client("codepipeline")
    with _pipeline(place, "V1") as pipeline:
        if pipeline is None:
            return hidden(NO_PIPELINE)
        if pipeline.kind != "V1":
            return hidden(f"CodePipeline made a pipeline of type {pipeline.kind} although V1 was asked for")
        try:
            started = client.start_pipeline_execution(name=pipeline.name, sourceRevisions=[pipeline.pin])
        except ClientError as error:
            if error.response["Error"]["Code"].startswith("AccessDenied"):
                raise
            return holds(str(error))
        return fails(f"the start was accepted; {_revision(client, pipeline.name, started['pipelineExecutionId'])}")


def revisions_are_shown_from_the_start(place: Place) -> Seen:
    """Creates a V2 pipeline, starts it with a pin, and reads at once whether the new execution shows the pin."""
    client = place.client("codepipeline")
    with _pipeline(place, "V2") as pipeline:
        if pipeline is None:
            return hidden(NO_PIPELINE)
        started = client.start_pipeline_execution(name=pipeline.name, sourceRevisions=[pipeline.pin])
        found = client.list_pipeline_executions(pipelineName=pipeline.name)["pipelineExecutionSummaries"]
    for one in (one for one in found if one["pipelineExecutionId"] == started["pipelineExecutionId"]):
        shown = [revision.get("revisionId") for revision in one.get("sourceRevisions", [])]
        if shown == [pipeline.pin["revisionValue"]]:
            return holds(f"the execution showed its pin while it was {one['status']}")
        return fails(f"the execution showed {shown or 'no revision'} while it was {one['status']}")
    return fails("the list of executions did not have the new execution yet")


def _revision(client: Any, name: str, execution: str) -> str:
    """The end of a sentence that names the commit with which an execution ran."""
    for _ in range(20):
        found = client.list_pipeline_executions(pipelineName=name)["pipelineExecutionSummaries"]
        for one in (one for one in found if one["pipelineExecutionId"] == execution):
            for revision in one.get("sourceRevisions", []):
                taken = revision.get("revisionId")
                return "it took the pin" if taken == "0" * 40 else f"it ignored the pin and took {taken}"
        time.sleep(3)
    return "within a minute, it showed no commit"


def change_set_reverts_drift(place: Place) -> Seen:
    """Disables a rule for a moment, and checks whether a drift-aware change set would enable the rule again."""
    rule = next(name for duty, name in SCHEDULES.items() if place.target.does(duty))
    events, cloudformation = place.client("events"), place.client("cloudformation")
    stack, change_set = place.target.stack, unique_name()
    if events.describe_rule(Name=rule)["State"] == "DISABLED":
        return hidden(f"rule {rule} is disabled already: enable it, then check again")
    parameters = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Parameters", [])
    which = {"StackName": stack, "ChangeSetName": change_set}
    with ExitStack() as removals:
        with uninterrupted():
            events.disable_rule(Name=rule)
            removals.callback(place.remove, f"the disabled state of rule {rule}", events.enable_rule, Name=rule)
        with uninterrupted():
            cloudformation.create_change_set(
                **which,
                DeploymentMode="REVERT_DRIFT",
                UsePreviousTemplate=True,
                Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
                Parameters=[{"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in parameters],
            )
            removals.callback(place.remove, f"change set {change_set}", cloudformation.delete_change_set, **which)
        found = described(cloudformation, which)
    changed = [one["ResourceChange"].get("PhysicalResourceId") for one in found.get("Changes", [])]
    if rule in changed:
        return holds(f"the change set would enable rule {rule} again")
    return fails(f"the change set ({found['Status']}: {found.get('StatusReason')}) does not change rule {rule}")


def described(cloudformation: Any, which: dict[str, str]) -> dict[str, Any]:
    """Waits up to five minutes until CloudFormation has made a change set, and returns it with all its changes."""
    for _ in range(150):
        found: dict[str, Any] = cloudformation.describe_change_set(**which)
        if found["Status"] in ("CREATE_COMPLETE", "FAILED"):
            break
        time.sleep(2)
    while token := found.get("NextToken"):
        more = cloudformation.describe_change_set(**which, NextToken=token)
        found["Changes"] += more["Changes"]
        found["NextToken"] = more.get("NextToken")
    return found


def removed_grant_stops(place: Place) -> Seen:
    """Creates a user, grants it one call, removes the grant, and measures the time until the call is refused."""
    iam, name, policy = place.client("iam"), f"sekisho-{unique_name()}", "grant"
    which = {"UserName": name, "PolicyName": policy}
    allowed = {"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}
    with ExitStack() as stack:
        with uninterrupted():
            iam.create_user(UserName=name)
            stack.callback(place.remove, f"user {name}", iam.delete_user, UserName=name)
        with uninterrupted():
            key = iam.create_access_key(UserName=name)["AccessKey"]
            of_user = {"UserName": name, "AccessKeyId": key["AccessKeyId"]}
            stack.callback(place.remove, f"access key of {name}", iam.delete_access_key, **of_user)
        grant = stack.enter_context(ExitStack())
        with uninterrupted():
            iam.put_user_policy(**which, PolicyDocument=document(allowed))
            grant.callback(place.remove, f"policy of {name}", iam.delete_user_policy, **which)
        # The client has the user's key, and otherwise the profile's settings, such as an endpoint.
        tables: Any = place.session.client(
            "dynamodb", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
        )
        if eventually(lambda: _may(tables), LONGEST_GRANT_SECONDS) is None:
            return hidden(f"the grant did not begin within {LONGEST_GRANT_SECONDS} s")
        grant.close()
        seconds = eventually(lambda: not _may(tables), LONGEST_GRANT_SECONDS)
    if seconds is None:
        return fails(f"{LONGEST_GRANT_SECONDS} s after its removal, the grant still worked")
    return holds(f"the removed grant worked for {seconds:.0f} s more")


def _may(tables: Any) -> bool:
    """Whether the user may make the call."""
    try:
        tables.list_tables(Limit=1)
    except ClientError:
        return False
    return True
