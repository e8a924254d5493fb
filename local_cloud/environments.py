"""The environments in which Lambda runs a function, and what a new configuration means for them.

By itself, the emulator kills running invocations when a function gets another configuration or other code, also those
of functions with the same name in other accounts. It retries an asynchronous invocation with the configuration of the
first attempt, and the environment of that retry then serves other events with the old configuration.
"""

from typing import Any

from ministack.core import lambda_runtime
from ministack.core.responses import get_account_id, get_region
from ministack.services import lambda_svc

from local_cloud.services import Json

_emulator_execute = lambda_svc._execute_function_provided_warm


def install() -> None:
    """Patches the emulator."""
    lambda_svc._execute_function_provided_warm = _execute
    lambda_svc.invalidate_worker = _retire
    lambda_svc.release_worker = _release


def _execute(function: Json, event: Json, request_id: str) -> Any:
    """Runs an invocation with the configuration that the function has now, and not when the event was sent."""
    config = function.get("config") or function
    current = lambda_svc._functions.get(config.get("FunctionName", ""))
    if current is not None and config.get("Version", "$LATEST") == "$LATEST":
        # The ARN is the one by which the function was invoked.
        invoked = {**current["config"], "FunctionArn": config["FunctionArn"]}
        function = lambda_svc._execution_record_for_config(current, invoked)
    return _emulator_execute(function, event, request_id)


def _retire(name: str, qualifier: str | None = None, account: str | None = None, region: str | None = None) -> None:
    """Takes a function's environments out of use. Those that run an invocation end after it."""
    prefix = f"{account or get_account_id()}:{region or get_region()}:{name}:"
    with lambda_runtime._lock:
        pools = lambda_runtime._workers
        keys = [key for key in pools if key.startswith(prefix) and qualifier in (None, key.removeprefix(prefix))]
        workers = [worker for key in keys for worker in pools.pop(key)]
        for worker in workers:
            worker.is_retired = True
        idle = [worker for worker in workers if not worker.in_use]
    lambda_runtime.kill_workers(idle)


def _release(worker: Any) -> None:
    lambda_runtime.release_worker(worker)
    if getattr(worker, "is_retired", False):
        lambda_runtime.kill_workers([worker])
