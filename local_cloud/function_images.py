"""Lambda's pull of a function's image: the image exists, its repository admits Lambda, and its kind is supported.

The emulator accepts any image URI. On AWS, Lambda pulls the image as a service, when a function is created and when its
code changes. The repository must admit Lambda by its policy, also a repository of the function's own account.
"""

import re
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region, request_scope
from ministack.services import ecr, lambda_svc
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json, Refused

SERVICE = "lambda.amazonaws.com"
PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<name>[a-z0-9._/-]+)"
    r"(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
# Lambda takes an image for one platform, and no index of images.
SUPPORTED = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_emulator_create = lambda_svc._create_function
_emulator_update = lambda_svc._update_code


def install() -> None:
    """Patches the emulator's Lambda, and its functions in templates."""
    lambda_svc._create_function = _create
    lambda_svc._update_code = _update
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    handlers["create"] = _created_by_template(handlers["create"])


def _create(request: Json) -> Any:
    uri = request.get("Code", {}).get("ImageUri")
    return _refusal(uri, request.get("FunctionName", "")) or _emulator_create(request)


def _update(name: str, request: Json) -> Any:
    return _refusal(request.get("ImageUri"), name) or _emulator_update(name, request)


def _created_by_template(create: Callable[..., Any]) -> Callable[..., Any]:
    def create_resource(logical_id: str, properties: Json, stack: str, **more: Any) -> Any:
        try:
            _pull((properties.get("Code") or {}).get("ImageUri"), properties.get("FunctionName", logical_id))
        except Refused as error:
            raise ValueError(f"AWS::Lambda::Function {logical_id}: {error.code}: {error}") from None
        return create(logical_id, properties, stack, **more)

    return create_resource


def _refusal(uri: str | None, function: str) -> Any:
    try:
        _pull(uri, function)
    except Refused as error:
        return error_response_json(error.code, str(error), error.status)
    return None


def _pull(uri: str | None, function: str) -> None:
    """Raises `Refused` if Lambda can't pull the image for the function. An image of another registry is not checked."""
    found = URI.fullmatch(uri or "")
    if found is None:
        return
    if found["region"] != get_region():
        raise Refused("InvalidParameterValueException", f"Source image {uri} is not in the function's region.")
    if not _admits_lambda(found["account"], found["name"], function):
        message = "Lambda does not have permission to access the ECR image. Check the ECR permissions."
        raise Refused("AccessDeniedException", message, 403)
    image_id = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    with request_scope(found["account"], get_region()):
        image = ecr._find_image(found["name"], image_id)
    if image is None:
        message = f"Source image {uri} does not exist. Provide a valid source image."
        raise Refused("InvalidParameterValueException", message)
    if image["imageManifestMediaType"] not in SUPPORTED:
        message = f"The image manifest, config or layer media type for the source image {uri} is not supported."
        raise Refused("InvalidParameterValueException", message)


def _admits_lambda(owner: str, name: str, function: str) -> bool:
    """Whether the policy of the repository lets Lambda pull for a function of the current account.

    If the caller may change the policy of a repository in the own account, AWS's Lambda adds the statement that it
    needs. This stand-in never does.
    """
    account, region = get_account_id(), get_region()
    with request_scope(owner, region):
        policy = ecr._repo_policies.get(name)
    source = {
        "aws:sourceaccount": account,
        "aws:sourcearn": f"arn:aws:lambda:{region}:{account}:function:{function}",
    }
    contexts = [
        iam_evaluator.EvalContext(
            principal_arn=SERVICE,
            principal_type="Service",
            principal_account=account,
            action=action,
            resource_arn=f"arn:aws:ecr:{region}:{owner}:repository/{name}",
            region=region,
            service_context=source,
        )
        for action in PULL
    ]
    decisions = {iam_evaluator.evaluate_resource_policy(policy, one, service=SERVICE).decision for one in contexts}
    return decisions == {"Allow"}
