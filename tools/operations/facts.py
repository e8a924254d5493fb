"""The parts that all smoke checks share: a fact, the account in which the fact is checked, and the result."""

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from tools.layout import CONFIG, LEDGER
from tools.operations.decision_log import decisions
from tools.operations.environment import Environment
from tools.operations.routes import Route, routes_to

DUTIES = {"repositories": "HostsRepositories", "pipelines": "HostsPipelines", "access": "GrantsAccess"}
# The checks look at the last day. Alarms have already reported older failures.
PERIOD = timedelta(days=1)
# The first part of each name that a check creates. Names are short: CodePipeline keeps only 20 characters of a name.
PREFIX = "smoke-"


class State(Enum):
    """Whether a fact holds."""

    HOLDS = "holds"
    FAILS = "DOES NOT HOLD"
    HIDDEN = "can't be seen"


class Seen(NamedTuple):
    """The result of a check: its state, and a text that says what was found or why nothing can be found here."""

    state: State
    detail: str


def holds(detail: str) -> Seen:
    """The result for a fact that holds."""
    return Seen(State.HOLDS, detail)


def fails(detail: str) -> Seen:
    """The result for a fact that does not hold."""
    return Seen(State.FAILS, detail)


def hidden(detail: str) -> Seen:
    """The result for a fact that can't be seen here, now or with these credentials."""
    return Seen(State.HIDDEN, detail)


class Place:
    """The account in which the facts are checked."""

    def __init__(self, target: Environment) -> None:
        self.target, self.id, self.region = target, target.account, target.region
        self.session = target.session()
        # The resources that a check created and could not remove, each with the error.
        self.left: list[str] = []

    def client(self, service: str) -> Any:
        """A client for the service."""
        return self.session.client(service)  # type: ignore[call-overload] # the stubs know only literal names

    def does(self, where: str) -> bool:
        """Whether a fact is checked in this account: `where` is a duty of the account, or `each` for all accounts."""
        return where == "each" or self.target.does(DUTIES[where])

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        stack = self.client("cloudformation").describe_stacks(StackName=self.target.stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    @property
    def routes(self) -> list[Route]:
        """The routes in the local sekisho.toml that lead to this account's pipelines, one route for each pipeline."""
        found = routes_to(self.id, self.region, CONFIG.read_text())
        return list({route.pipeline: route for route in found}.values())

    def resources(self, kind: str) -> list[str]:
        """The physical ids of the stack's resources that have this type."""
        pages = (
            self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.target.stack)
        )
        return [
            one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["ResourceType"] == kind and one.get("PhysicalResourceId")
        ]

    def total(self, namespace: str, metric: str, **dimensions: str) -> float:
        """The sum of a metric over the last day (`PERIOD`)."""
        now = datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - PERIOD,
            EndTime=now,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))

    def decisions(self, function: str) -> Iterator[dict[str, Any]]:
        """The function's decisions of yesterday and today (in UTC) from the ledger."""
        now = datetime.now(UTC)
        found = decisions(self.session, self.outputs.get("LedgerTableName", LEDGER), function, (now - PERIOD, now))
        return (one.decision for one in found)

    def remove(self, what: str, operation: Callable[..., Any], **request: Any) -> None:
        """Removes a resource that a check created. If the removal fails, the report names the resource."""
        try:
            with uninterrupted():
                operation(**request)
        except Exception as error:  # whatever the error is, the other removals must follow
            self.left.append(f"{what} ({error})")


class Fact(NamedTuple):
    """A fact about AWS that the project relies on and that only AWS can show."""

    name: str
    # The accounts in which the fact is checked: `each`, or those with the duty `repositories`, `pipelines` or `access`.
    where: str
    # Whether the check needs WRITE=1, because it creates something or tries to change something.
    writes: bool
    # The consequence if the fact does not hold.
    breaks: str
    check: Callable[[Place], Seen]


def end_in_order() -> None:
    """Turns a signal that ends this command into an exception, so that a check's resources are removed first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays the signals that end this command until the block is done, so that each new resource has its removal."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def unique_name() -> str:
    """A new name of 14 characters for a resource that a check creates."""
    return PREFIX + secrets.token_hex(4)


def eventually(probe: Callable[[], bool], seconds: float) -> float | None:
    """Repeats the probe until it is true, and returns the seconds that this took; None if `seconds` were not enough."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(1)
    return time.monotonic() - began


def document(*statements: dict[str, Any]) -> str:
    """The JSON text of a policy with these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
