"""A stand-in for S3 Batch Operations: CreateJob and DescribeJob, only for jobs that update the encryption of objects.

A job reads its manifest, changes the key of each object, and writes its completion report with the permissions of the
job's role. As on AWS, a report is under the key of S3 itself. Jobs need no confirmation, start at once and can't be
changed. The manifest is a CSV file with bucket, key and, if wanted, version.
"""

import contextvars
import csv
import hashlib
import io
import json
import threading
import time
import uuid
from typing import Any
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element, SubElement, tostring

import botocore.session
from botocore.exceptions import ClientError
from defusedxml.ElementTree import ParseError, fromstring
from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import s3

from local_cloud import iam
from local_cloud.services import Json, Refused, client

SERVICE = "batchoperations.s3.amazonaws.com"
PATH = "/v20180820/jobs"
FORMAT, REPORT_FORMAT = "S3BatchOperations_CSV_20180820", "Report_CSV_20180820"
SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
# S3 gives up on a job if more than half of at least this many tasks have failed.
TRIED = 1000

_jobs: dict[tuple[str, str], Json] = {}
_tokens: dict[tuple[str, str], str] = {}
_emulator_handle = app._handle_s3_control_request


def install() -> None:
    """Adds the operations to the emulator's S3 Control."""
    app._handle_s3_control_request = _handle


async def _handle(path: str, method: str, body: bytes, query: Json, request: str, headers: Json | None = None) -> Any:
    top, _, identity = path.removeprefix(PATH).partition("/")
    operation = {("POST", False): "CreateJob", ("GET", True): "DescribeJob"}.get((method, bool(identity)))
    if not path.startswith(PATH) or top or operation is None:
        return await _emulator_handle(path, method, body, query, request, headers)
    headers = headers or {}
    account, region = get_account_id(), get_region()
    resource = f"arn:aws:s3:{region}:{account}:job/{identity}" if identity else "*"
    denied = app._enforce_data_plane("s3", f"s3:{operation}", headers, query, request, resource_arn=resource)
    if refused := denied or s3.s3control_account_error(headers):
        return refused
    try:
        answer = _describe(account, identity) if identity else _create(account, region, headers, body)
    except Refused as error:
        return s3.s3control_error(error.code, str(error), error.status)
    return 200, {"Content-Type": "application/xml"}, tostring(answer)


def _create(account: str, region: str, headers: Json, body: bytes) -> Element:
    shape = botocore.session.get_session().get_service_model("s3control").operation_model("CreateJob").input_shape
    try:
        request = _read(fromstring(body), shape)
        encryption = request["Operation"]["S3UpdateObjectEncryption"]["ObjectEncryption"]["SSEKMS"]
        manifest, report, role = request["Manifest"], request["Report"], request["RoleArn"]
        spec, token = manifest["Spec"], request["ClientRequestToken"]
        fields = spec["Fields"]
        int(request["Priority"])
    except (ParseError, KeyError, ValueError) as error:
        raise Refused("InvalidRequest", f"The request is not valid: {error!r}") from None
    if spec["Format"] != FORMAT or fields not in (["Bucket", "Key"], ["Bucket", "Key", "VersionId"]):
        raise Refused("InvalidRequest", "Unsupported manifest spec")
    if request.get("ConfirmationRequired", "true") != "false":
        raise Refused("NotImplemented", "the local cloud confirms no job", 501)
    key = app.extract_access_key_id(headers, {})
    passed = {"iam:passedtoservice": SERVICE}
    if iam_evaluator.enforce(key, "iam:PassRole", "iam", region, role, passed) is not None:
        raise Refused("AccessDenied", f"{iam_evaluator.caller_arn()} may not pass {role} to {SERVICE}", 403)
    # A repeated request with the same token creates no second job.
    identity = _tokens.setdefault((account, token), str(uuid.uuid4()))
    if (account, identity) not in _jobs:
        job = _jobs[account, identity] = {
            "JobId": identity,
            "Status": "New",
            "Total": 0,
            "Succeeded": 0,
            "Failed": 0,
            "Why": "",
            "Role": role,
            "Encryption": encryption,
            "Manifest": manifest["Location"],
            "Report": report,
        }
        # On AWS, the service runs the job, so the job's thread has nothing of the caller's context.
        run = contextvars.Context().run
        threading.Thread(target=run, args=(_run, job, account, region), daemon=True, name=f"job-{identity}").start()
    answer = Element("CreateJobResult", xmlns=s3.S3CONTROL_NS)
    SubElement(answer, "JobId").text = identity
    return answer


def _read(element: Any, shape: Any) -> Any:
    """The value of an element of a request, in the form in which boto3 has it. Every scalar stays a text."""
    if shape.type_name == "list":
        return [_read(one, shape.member) for one in element]
    if shape.type_name != "structure":
        return element.text or ""
    names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
    found = [(names[one.tag.rpartition("}")[2]], one) for one in element]
    return {name: _read(one, shape.members[name]) for name, one in found}


def _describe(account: str, identity: str) -> Element:
    job = _jobs.get((account, identity))
    if job is None:
        raise Refused("NoSuchJob", "The specified job does not exist.", 404)
    answer = Element("DescribeJobResult", xmlns=s3.S3CONTROL_NS)
    described = SubElement(answer, "Job")
    for name in ("JobId", "Status"):
        SubElement(described, name).text = job[name]
    progress = SubElement(described, "ProgressSummary")
    for name, count in (("TotalNumberOfTasks", "Total"), ("NumberOfTasksSucceeded", "Succeeded")):
        SubElement(progress, name).text = str(job[count])
    SubElement(progress, "NumberOfTasksFailed").text = str(job["Failed"])
    if job["Why"]:
        reason = SubElement(SubElement(described, "FailureReasons"), "member")
        SubElement(reason, "FailureCode").text = "JobFailed"
        SubElement(reason, "FailureReason").text = job["Why"]
    SubElement(described, "RoleArn").text = job["Role"]
    return answer


def _run(job: Json, account: str, region: str) -> None:
    try:
        arn = f"arn:aws:s3:{region}:{account}:job/{job['JobId']}"
        caller = client(
            "s3", region, iam.service_session(job["Role"], SERVICE, arn, account, f"s3-batch-{job['JobId']}")
        )
        rows = _manifest(caller, job["Manifest"])
        job |= {"Status": "Active", "Total": len(rows)}
        results: dict[str, list[list[str]]] = {"succeeded": [], "failed": []}
        for row in rows:
            status, *result = _update(caller, row, job["Encryption"])
            results[status].append([row[0], quote(row[1], safe="/"), row[2], status, *result])
            job[status.capitalize()] += 1
            if job["Failed"] * 2 > job["Failed"] + job["Succeeded"] >= TRIED:
                job["Why"] = "Job failure rate exceeded the threshold"
                break
        # A job that failed halfway has a report, too.
        job["Status"] = "Failing" if job["Why"] else "Completing"
        _report(caller, job, results)
        job["Status"] = "Failed" if job["Why"] else "Complete"
    except (PermissionError, ClientError, ValueError) as error:
        job |= {"Why": str(error), "Status": "Failed"}


def _manifest(caller: Any, location: Json) -> list[list[str]]:
    """The bucket, the key and the version of each task; the version is empty for the latest one."""
    bucket, _, key = location["ObjectArn"].removeprefix("arn:aws:s3:::").partition("/")
    found = caller.get_object(Bucket=bucket, Key=key)
    if found["ETag"].strip('"') != location["ETag"].strip('"'):
        raise ValueError("Manifest ETag does not match the object's")
    rows = csv.reader(io.StringIO(found["Body"].read().decode()))
    # The keys in a manifest are encoded like in a URL.
    return [[bucket, unquote(key), *version, ""][:3] for bucket, key, *version in rows]


def _update(caller: Any, row: list[str], encryption: Json) -> tuple[str, str, str, str]:
    """Updates one object; returns the status, the HTTP status, the error code and the message for the report."""
    bucket, key, version = row
    with_bucket_key = encryption.get("BucketKeyEnabled") == "true"
    wanted = {"SSEKMS": {"KMSKeyArn": encryption["KMSKeyArn"], "BucketKeyEnabled": with_bucket_key}}
    arguments = {"Bucket": bucket, "Key": key, "ObjectEncryption": wanted} | ({"VersionId": version} if version else {})
    try:
        caller.update_object_encryption(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "failed", str(status), error.response["Error"]["Code"], error.response["Error"]["Message"]
    return "succeeded", "200", "", "Successful"


def _report(caller: Any, job: Json, results: dict[str, list[list[str]]]) -> None:
    report = job["Report"]
    if report["Enabled"] != "true":
        return
    if report["Format"] != REPORT_FORMAT:
        raise ValueError(f"Unsupported report format {report['Format']}")
    bucket = report["Bucket"].removeprefix("arn:aws:s3:::")
    folder = "/".join(part for part in (report.get("Prefix", ""), f"job-{job['JobId']}") if part)

    def put(key: str, text: str) -> None:
        caller.put_object(Bucket=bucket, Key=key, Body=text.encode(), ServerSideEncryption="AES256")

    listed = []
    for status, rows in results.items():
        if not rows or (status == "succeeded" and report["ReportScope"] == "FailedTasksOnly"):
            continue
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        digest = hashlib.md5(text.getvalue().encode(), usedforsecurity=False).hexdigest()
        key = f"{folder}/results/{digest}.csv"
        put(key, text.getvalue())
        listed.append({"TaskExecutionStatus": status, "Bucket": bucket, "MD5Checksum": digest, "Key": key})
    created = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    manifest = {"Format": REPORT_FORMAT, "ReportCreationDate": created, "Results": listed, "ReportSchema": SCHEMA}
    put(f"{folder}/manifest.json", json.dumps(manifest))
