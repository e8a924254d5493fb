"""Invokes a function of an environment, and reads its answer."""

import json
import time
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from tools.failure import Failure
from tools.operations.environment import Environment

# The pauses, in seconds, while Lambda throttles (429). Together they outlast a burst of the functions' own work.
PAUSES = [1, 2, 4, 8, 15, 30]
# botocore must not repeat an invocation that takes long, because the function would do its work twice.
PATIENT = Config(read_timeout=900, retries={"total_max_attempts": 1})


def invoke(functions: Any, function: str, body: str) -> Any:
    """Invokes the function. Repeats the call while Lambda throttles, because a throttled invocation did not run."""
    for pause in PAUSES:
        try:
            return functions.invoke(FunctionName=function, Payload=body.encode())
        except ClientError as error:
            if error.response["Error"]["Code"] != "TooManyRequestsException":
                raise
            time.sleep(pause)
    return functions.invoke(FunctionName=function, Payload=body.encode())


def ask_relay(target: Environment, request: dict[str, Any]) -> str:
    """Makes a request to event-relay, and returns its answer; fails with the function's own error."""
    if not target.does("HostsRepositories"):
        raise Failure(
            f"Environment {target.name} has no event-relay: use ENV={target.repositories}, the environment whose "
            "account has the repositories."
        )
    answer = _answer(target, "sekisho-event-relay", request)
    # The answers to requests are texts. Anything else comes from an earlier version that does not know the request.
    if not isinstance(answer, str):
        raise Failure(
            f"event-relay of account {target.account} does not know the action {request['action']}, and answered "
            f"{json.dumps(answer)}: make deploy ENV={target.name}, then try again."
        )
    return answer


def ask_checker(target: Environment, request: dict[str, Any]) -> str:
    """Makes a request to artifact-checker, and returns the reasons of its decisions."""
    if not target.does("HostsPipelines"):
        raise Failure(
            f"Environment {target.name} has no artifact-checker: use the environment whose account hosts the pipelines."
        )
    answer = _answer(target, "sekisho-artifact-checker", request)
    return "\n".join(f"{decision['outcome']}: {decision['reason']}" for decision in answer["decisions"])


def _answer(target: Environment, function: str, request: dict[str, Any]) -> Any:
    """The function's answer. Fails with the function's own error."""
    functions = target.session().client("lambda", config=PATIENT)
    response = invoke(functions, function, json.dumps(request))
    answer = json.loads(response["Payload"].read())
    if "FunctionError" in response:
        raise Failure(f"{answer.get('errorType')}: {answer.get('errorMessage')}")
    return answer
