"""Adds S3's encryption with KMS keys to the emulator, and the object's version to S3's events.

A bucket of a stack has the template's default encryption, a bucket policy sees the key that a request names, the use of
a key needs a KMS permission, and UpdateObjectEncryption changes an object's key in place. The emulator only stores the
key's name beside the object. Its objects are not encrypted, and these patches do not change that.
"""

import contextvars
import json
import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from defusedxml.ElementTree import ParseError, fromstring
from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge, kms, s3
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json

SSE = "x-amz-server-side-encryption"
SSE_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
SSE_CUSTOMER = "x-amz-server-side-encryption-customer-algorithm"
MANAGED = "alias/aws/s3"
BUCKET = "AWS::S3::Bucket"


def install() -> None:
    """Patches the emulator."""
    iam_actions.s3_service_context = _s3_service_context
    iam_actions.s3_additional_checks = _s3_additional_checks
    iam_evaluator.enforce = _enforce
    s3._resolve_sse_write_headers = _resolve_sse_write_headers
    kms._key_metadata = _key_metadata
    # Without this entry, the emulator would treat `PUT ?encryption` of an object as a write, and overwrite the object.
    iam_actions._S3_OBJECT_QUERY_ACTIONS["encryption"] = {"PUT": "UpdateObjectEncryption"}
    app.SERVICE_HANDLERS["s3"] = _handle
    s3._put_object = _put_object
    s3._fire_s3_event = _fire_s3_event
    eventbridge._dispatch_event = _dispatch_event
    provisioners._RESOURCE_HANDLERS[BUCKET] = _bucket_handlers(provisioners._RESOURCE_HANDLERS[BUCKET])


def _bucket_handlers(emulator: Json) -> Json:
    def created(logical_id: str, properties: Json, stack_name: str) -> tuple[str, Json]:
        name, attributes = emulator["create"](logical_id, properties, stack_name)
        _set_default_encryption(name, properties)
        return name, attributes

    def updated(name: str, before: Json, after: Json, stack_name: str) -> tuple[str, Json]:
        name, attributes = emulator["update"](name, before, after, stack_name)
        _set_default_encryption(name, after)
        return name, attributes

    return emulator | {"create": created, "update": updated}


def _set_default_encryption(bucket: str, properties: Json) -> None:
    rules = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
    if not rules:
        s3._bucket_encryption.pop(bucket, None)
        return
    (rule,) = rules
    default = Element("ApplyServerSideEncryptionByDefault")
    for name, value in rule["ServerSideEncryptionByDefault"].items():
        SubElement(default, name).text = value
    configuration = Element("ServerSideEncryptionConfiguration", xmlns=s3.S3_NS)
    own = SubElement(configuration, "Rule")
    own.append(default)
    SubElement(own, "BucketKeyEnabled").text = str(rule.get("BucketKeyEnabled", False)).lower()
    s3._bucket_encryption[bucket] = tostring(configuration, encoding="unicode")


_emulator_s3_service_context = iam_actions.s3_service_context


def _s3_service_context(action: str, query: Json | None, path: str = "", headers: Json | None = None) -> Json:
    context = _emulator_s3_service_context(action, query, path, headers)
    if action == "s3:PutObject":
        upload = s3._multipart_uploads.get(iam_actions._query_param(query or {}, "uploadId"))
        # A part has no encryption headers of its own, so the headers with which the upload was created apply.
        asked = upload.get("preserved_headers", {}) if upload else headers or {}
        if asked.get(SSE_KEY):
            context[f"s3:{SSE_KEY}"] = _key_arn(asked[SSE_KEY])
        if asked.get(SSE_CUSTOMER):
            context[f"s3:{SSE_CUSTOMER}"] = asked[SSE_CUSTOMER]
    return context


_emulator_s3_additional_checks = iam_actions.s3_additional_checks


def _s3_additional_checks(method: str, path: str, headers: Json, body: bytes, query: Json) -> list[tuple[str, str]]:
    checks: list[tuple[str, str]] = _emulator_s3_additional_checks(method, path, headers, body, query)
    bucket, _, key = path.lstrip("/").partition("/")
    action = iam_actions._s3_action(method, path, query) if key else None
    if action == "PutObject":
        upload = s3._multipart_uploads.get(iam_actions._query_param(query, "uploadId"))
        stored = upload["preserved_headers"].get(SSE_KEY) if upload else _stored_key(bucket, headers)
        if stored:
            # A multipart upload also needs kms:Decrypt, because S3 reads the encrypted parts to complete the upload.
            checks += [("kms:GenerateDataKey", stored)] + ([("kms:Decrypt", stored)] if upload else [])
        source = iam_actions._s3_source_object(headers)
        if source:
            source_bucket, source_key = source[0].removeprefix("arn:aws:s3:::").split("/", 1)
            checks += _decrypt(source_bucket, source_key, source[1])
    elif action in ("GetObject", "GetObjectVersion") and method == "GET":
        # As on AWS, a HEAD request reads no data and does not use the key.
        checks += _decrypt(bucket, key, iam_actions._query_param(query, "versionId"))
    elif action == "UpdateObjectEncryption":
        # AWS lists these five permissions for the call, but does not say which of the two keys needs which permission.
        checks += [
            ("kms:ReEncryptFrom" if one == "kms:Decrypt" else one, arn)
            for one, arn in _decrypt(bucket, key, iam_actions._query_param(query, "versionId"))
        ]
        wanted = _wanted_key(body)
        if wanted:
            checks += [(f"kms:{one}", wanted) for one in ("Encrypt", "Decrypt", "GenerateDataKey", "ReEncryptTo")]
    return checks


def _stored_key(bucket: str, headers: Json) -> str | None:
    """The ARN of the KMS key under which a write would be encrypted; None if the write would use no KMS key."""
    if headers.get(SSE):
        return _key_arn(headers.get(SSE_KEY) or MANAGED) if headers[SSE] == "aws:kms" else None
    owner = s3._bucket_owner_account(bucket)
    if owner is None:
        return None
    with request_scope(owner, get_region()):
        default = s3._bucket_default_sse_headers(bucket)
    return _key_arn(default[SSE_KEY]) if default.get(SSE_KEY) else None


def _decrypt(bucket: str, key: str, version: str | None) -> list[tuple[str, str]]:
    owner = s3._bucket_owner_account(bucket)
    if owner is None:
        return []
    with request_scope(owner, get_region()):
        status, headers, _ = s3._head_object(bucket, key, {}, {"versionId": [version]} if version else {})
    return [("kms:Decrypt", headers[SSE_KEY])] if status == 200 and headers.get(SSE_KEY) else []


_emulator_enforce = iam_evaluator.enforce


def _enforce(
    access_key: str,
    action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: Json | None = None,
) -> Any:
    if not (service == "s3" and action.startswith("kms:")):
        return _emulator_enforce(access_key, action, service, region, resource_arn, service_context)
    principal = iam_evaluator.resolve_principal(access_key, get_account_id())
    if isinstance(principal, iam_evaluator.AuthError):
        return principal
    context = iam_evaluator.EvalContext(
        principal_arn=principal.arn,
        principal_type=principal.type,
        principal_account=principal.account,
        action=action,
        resource_arn=resource_arn,
        region=region,
        principal_keys=principal.keys,
        service_context={"kms:viaservice": f"s3.{region}.amazonaws.com", "kms:calleraccount": principal.account},
    )
    owner, key = _key(resource_arn)
    if key is None:
        return iam_evaluator.AuthError("KMS.NotFoundException", f"Key '{resource_arn}' does not exist")
    if key["KeyState"] != "Enabled":
        code = "DisabledException" if key["KeyState"] == "Disabled" else "KMSInvalidStateException"
        return iam_evaluator.AuthError(f"KMS.{code}", f"{resource_arn} is {key['KeyState']}.")
    identity = (
        iam_evaluator.EvalResult("Allow", principal.arn)
        if principal.policies is None
        else iam_evaluator.evaluate(context, principal.policies, *principal.limits)
    )
    result = iam_evaluator.combine_resource_policy(
        identity, context, key["Policy"], owner, required=True, limits=tuple(principal.limits)
    )
    if result.decision == "Allow":
        return None
    reason = (
        "with an explicit deny"
        if result.decision == "Deny"
        else "because no "
        f"{'resource' if identity.decision == 'Allow' else 'identity'}-based policy allows the {action} action"
    )
    return iam_evaluator.AuthError(
        "AccessDenied",
        f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource_arn} {reason}",
    )


def _key(arn: str) -> tuple[str, Json | None]:
    """The account in a key's ARN, and the key; None in place of the key if there is no such key."""
    try:
        spec = parse_arn(arn)
    except ArnParseError:
        return "", None
    with request_scope(spec.account_id, spec.region):
        return spec.account_id, kms._resolve_key(arn)


def _key_arn(name: str, account: str | None = None) -> str:
    """The full ARN of a key. A bare id or alias names a key of the caller's account, not of the bucket's account."""
    account = account or get_account_id()
    if name == MANAGED:
        return _managed_key(account)
    if not name.startswith("arn:"):
        name = f"arn:aws:kms:{get_region()}:{account}:{name if name.startswith('alias/') else f'key/{name}'}"
    _, key = _key(name)
    return key["Arn"] if key else name


def _managed_key(account: str) -> str:
    """The ARN of the account's managed key `aws/s3`, which everybody in the account may use through S3.

    The key is created at its first use.
    """
    with request_scope(account, get_region()):
        key = kms._resolve_key(MANAGED)
        if key is None:
            kms._create_key(
                {
                    "Policy": json.dumps(
                        {
                            "Version": "2012-10-17",
                            "Statement": [
                                {
                                    "Effect": "Allow",
                                    "Principal": {"AWS": "*"},
                                    "Resource": "*",
                                    "Action": [
                                        "kms:Encrypt",
                                        "kms:Decrypt",
                                        "kms:ReEncrypt*",
                                        "kms:GenerateDataKey*",
                                        "kms:DescribeKey",
                                    ],
                                    "Condition": {
                                        "StringEquals": {
                                            "kms:ViaService": f"s3.{get_region()}.amazonaws.com",
                                            "kms:CallerAccount": account,
                                        }
                                    },
                                },
                                {
                                    "Effect": "Allow",
                                    "Principal": {"AWS": account},
                                    "Resource": "*",
                                    "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
                                },
                            ],
                        }
                    )
                }
            )
            key = list(kms._keys.values())[-1]
            key["KeyManager"] = "AWS"
            kms._aliases[kms._alias_arn(MANAGED)] = key["KeyId"]
        return key["Arn"]


_emulator_key_metadata = kms._key_metadata


def _key_metadata(key: Json) -> Json:
    return _emulator_key_metadata(key) | {
        "KeyManager": key.get("KeyManager", "CUSTOMER"),
        "AWSAccountId": key["Arn"].split(":")[4],
    }


_emulator_resolve_sse_write_headers = s3._resolve_sse_write_headers


def _resolve_sse_write_headers(headers: Json, bucket: str) -> Any:
    if headers.get(SSE) == "aws:kms":
        # The emulator's S3 runs in the bucket owner's account here, but the key belongs to the caller's account.
        caller = iam_evaluator.caller_arn().split(":")[4]
        headers = {**headers, SSE_KEY: _key_arn(headers.get(SSE_KEY) or MANAGED, caller)}
    return _emulator_resolve_sse_write_headers(headers, bucket)


_update: contextvars.ContextVar[str | None] = contextvars.ContextVar("version_to_update", default=None)
_emulator_handle = app.SERVICE_HANDLERS["s3"]
_emulator_put_object = s3._put_object


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    if method == "PUT" and "encryption" in query and "/" in path.strip("/"):
        _update.set(iam_actions._query_param(query, "versionId") or "")
    return await _emulator_handle(method, path, headers, body, query)


def _wanted_key(body: bytes) -> str | None:
    """The key that an UpdateObjectEncryption request names; None unless the request has the key's full ARN."""
    try:
        found = fromstring(body).find("{*}SSE-KMS/{*}KMSKeyArn")
    except ParseError:
        return None
    named = found is not None and re.fullmatch(r"arn:aws:kms:[^:]+:\d{12}:key/.+", found.text or "")
    return found.text if named else None


def _put_object(bucket: str, key: str, body: bytes, headers: Json) -> Any:
    version = _update.get()
    if version is None:
        return _emulator_put_object(bucket, key, body, headers)
    wanted, resource = _wanted_key(body), f"/{bucket}/{key}"
    if wanted is None:
        return s3._error(
            "InvalidRequest",
            "Requests that modify an object's encryption type to SSE-KMS require a "
            "valid AWS KMS key Amazon Resource Name (ARN).",
            400,
            resource,
        )
    if wanted.split(":")[4] != get_account_id():
        return s3._error(
            "AccessDenied",
            "The AWS KMS key in the request must be owned by the same account as the bucket.",
            403,
            resource,
        )
    if bucket not in s3._buckets:
        return s3._no_such_bucket(bucket)
    held = s3._buckets[bucket]["objects"].get(key)
    if version and not (held and held.get("version_id") == version):
        held = next((one for one in s3._object_versions.get((bucket, key), []) if one["version_id"] == version), None)
    if held is None or held.get("is_delete_marker"):
        return s3._error("NoSuchKey", "The specified key does not exist.", 404, resource)
    stored = held["preserved_headers"]
    if stored.get(SSE, "AES256") not in ("AES256", "aws:kms") or SSE_CUSTOMER in stored:
        return s3._error(
            "InvalidRequest", "Only source objects encrypted with SSE-S3 or SSE-KMS are supported.", 400, resource
        )
    # The list of versions and the current object share this dictionary, so the update changes both.
    stored.update({SSE: "aws:kms", SSE_KEY: wanted})
    return 200, {}, b""


_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("version_of_the_event", default=None)
_emulator_fire_s3_event = s3._fire_s3_event
_emulator_dispatch_event = eventbridge._dispatch_event


def _fire_s3_event(*arguments: Any, version_id: str | None = None, **more: Any) -> None:
    _version.set(version_id)
    _emulator_fire_s3_event(*arguments, version_id=version_id, **more)


def _dispatch_event(event: Json, view: Any = None) -> None:
    if event["Source"] == "aws.s3" and _version.get():
        detail = json.loads(event["Detail"])
        detail["object"]["version-id"] = _version.get()
        event, view = {**event, "Detail": json.dumps(detail)}, None
    _emulator_dispatch_event(event, view)


def _copy(rest: str, body: bytes) -> tuple[int, str]:
    """Writes an object of `account/bucket/key` again under each key in the body, one a line, without any event.

    The objects are what PutObject would write, but a test needs many of them within a second.
    """
    account, bucket, key = rest.split("/", 2)
    with request_scope(account, get_region()):
        objects = s3._buckets[bucket]["objects"]
        for name in body.decode().splitlines():
            objects[name] = objects[key] | {"preserved_headers": dict(objects[key]["preserved_headers"])}
            s3._record_object_version(bucket, name, None, objects[name], objects[key]["body"])
    return 200, ""


PATHS = {"copies": _copy}
