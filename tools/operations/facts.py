"""What the smoke checks have in common: a fact, the account that it is checked in, and the result."""

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
from tools.operations.environment import Environment
from tools.operations.routes import Route, routes_to

DUTIES = {"repositories": "HostsRepositories", "pipelines": "HostsPipelines", "access": "GrantsAccess"}
# The checks look at the last day. Alarms cover the time before.
PERIOD = timedelta(days=1)
# The names of everything that a check creates begin like this. CodePipeline keeps 20 characters of a name.
PREFIX = "smoke-"


class State(Enum):
    """Whether a fact holds."""

    HOLDS = "holds"
    FAILS = "DOES NOT HOLD"
    HIDDEN = "can't be seen"


class Seen(NamedTuple):
    """The result of a check: its state, and what was found or why nothing can be found here."""

    state: State
    detail: str


def holds(detail: str) -> Seen:
    """The fact holds."""
    return Seen(State.HOLDS, detail)


def fails(detail: str) -> Seen:
    """The fact does not hold."""
    return Seen(State.FAILS, detail)


def hidden(detail: str) -> Seen:
    """The fact can't be seen here, now or with these credentials."""
    return Seen(State.HIDDEN, detail)


class Place:
    """The account in which the facts are checked."""

    def __init__(self, target: Environment) -> None:
        self.target, self.id, self.region = target, target.account, target.region
        self.session = target.session()
        # What a check created and could not remove.
        self.left: list[str] = []

    def client(self, service: str) -> Any:
        """A client for the service."""
        return self.session.client(service)  # type: ignore[call-overload] # the stubs know only literal names

    def does(self, where: str) -> bool:
        """Whether the account has the duty: repositories, pipelines or access; each account counts as `each`."""
        return where == "each" or self.target.does(DUTIES[where])

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        stack = self.client("cloudformation").describe_stacks(StackName=self.target.stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    @property
    def routes(self) -> list[Route]:
        """The routes to this account's pipelines in the local sekisho.toml, one for each pipeline."""
        found = routes_to(self.id, self.region, CONFIG.read_text())
        return list({route.pipeline: route for route in found}.values())

    def resources(self, kind: str) -> list[str]:
        """The physical ids of the stack's resources of a type."""
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
        """The sum of a metric over the period."""
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
        """The decisions of a function in the ledger, of yesterday and today."""
        now = datetime.now(UTC)
        paginator = self.client("dynamodb").get_paginator("query")
        for day in (now - PERIOD, now):
            pages = paginator.paginate(
                TableName=self.outputs.get("LedgerTableName", LEDGER),
                KeyConditionExpression="pk = :decisions",
                ExpressionAttributeValues={":decisions": {"S": f"decision#{function}#{day:%Y-%m-%d}"}},
            )
            for page in pages:
                for row in page["Items"]:
                    yield from [_plain(one) for one in row.get("decisions", {}).get("L", [])]

    def remove(self, what: str, operation: Callable[..., Any], **request: Any) -> None:
        """Removes something that a check created. If that fails, the report names it."""
        try:
            with uninterrupted():
                operation(**request)
        except Exception as error:  # whatever the error is, the other removals must follow
            self.left.append(f"{what} ({error})")


def _plain(value: dict[str, Any]) -> Any:
    """A value of DynamoDB as a plain value. Decisions hold maps of texts only."""
    ((kind, content),) = value.items()
    return {name: _plain(one) for name, one in content.items()} if kind == "M" else content


class Fact(NamedTuple):
    """A fact about AWS that the project relies on and that only AWS can show."""

    name: str
    # Where it is checked: each, or the duty of an account.
    where: str
    # Whether the check creates something, which it removes again.
    writes: bool
    # What does not work if the fact does not hold.
    breaks: str
    check: Callable[[Place], Seen]


def end_in_order() -> None:
    """Makes a signal that ends this command an exception, so that what was created is removed first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds back the signals that end this command, until something is created and its removal is ensured."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def unique_name() -> str:
    """A name for something that a check creates, of 14 characters."""
    return PREFIX + secrets.token_hex(4)


def eventually(probe: Callable[[], bool], seconds: float) -> float | None:
    """The seconds until the probe was true; None if it was not in time."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(1)
    return time.monotonic() - began


def document(*statements: dict[str, Any]) -> str:
    """A policy of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
