"""Creates, updates and deletes the pipelines in CloudFormation templates."""

import itertools
from typing import Any

from ministack.services.cloudformation import provisioners

from local_cloud.services import Json, Operation, Refused


def install(create: Operation, update: Operation, delete: Operation) -> None:
    """Adds the resource type to CloudFormation. The three parameters are operations of CodePipeline's API."""

    def create_resource(logical_id: str, properties: Json, stack: str) -> tuple[str, Json]:
        name = properties.get("Name") or provisioners._physical_name(stack, logical_id, max_len=100)
        return _apply(create, properties, name)

    def update_resource(name: str, _old: Json, properties: Json, _stack: str) -> tuple[str, Json]:
        if properties.get("Name", name) != name:
            raise ValueError("AWS::CodePipeline::Pipeline: the local cloud does not rename a pipeline")
        return _apply(update, properties, name)

    def delete_resource(name: str, _properties: Json) -> None:
        delete({"name": name})

    provisioners._RESOURCE_HANDLERS["AWS::CodePipeline::Pipeline"] = {
        "create": create_resource,
        "update": update_resource,
        "delete": delete_resource,
    }


def _apply(operation: Operation, properties: Json, name: str) -> tuple[str, Json]:
    try:
        pipeline = operation({"pipeline": _structure(properties, name)})["pipeline"]
    except Refused as error:
        raise ValueError(f"AWS::CodePipeline::Pipeline {name}: {error.code}: {error}") from None
    return name, {"Version": str(pipeline["version"])}


def _structure(properties: Json, name: str) -> Json:
    kept = {key: value for key, value in properties.items() if key not in ("Tags", "RestartExecutionOnUpdate")}
    structure: Json = _as_in_the_api(kept) | {"name": name}
    for action in itertools.chain.from_iterable(stage["actions"] for stage in structure["stages"]):
        if "runOrder" in action:
            action["runOrder"] = int(action["runOrder"])
    return structure


def _as_in_the_api(value: Any, *, free: bool = False) -> Any:
    """Converts the keys of a template's properties to the API's spelling, such as `ArtifactStore` to `artifactStore`.

    The keys in an action's `Configuration` (`free`) are the provider's own names, so they stay unchanged.
    """
    if isinstance(value, list):
        return [_as_in_the_api(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key if free else key[0].lower() + key[1:]: _as_in_the_api(one, free=key == "Configuration")
        for key, one in value.items()
    }
