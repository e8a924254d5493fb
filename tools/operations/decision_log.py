"""The decisions that the functions wrote to an account's ledger, one partition for each function and day (in UTC)."""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, NamedTuple

import boto3


class Decided(NamedTuple):
    """A decision, with the time at which it was recorded, such as `2026-11-21T20:45:00.000Z`, and the request's id."""

    at: str
    request: str
    decision: dict[str, Any]


def decisions(session: boto3.Session, table: str, function: str, days: Iterable[date]) -> Iterator[Decided]:
    """The decisions of a function on these days, in order."""
    paginator = session.client("dynamodb").get_paginator("query")
    for day in days:
        pages = paginator.paginate(
            TableName=table,
            KeyConditionExpression="pk = :decisions",
            ExpressionAttributeValues={":decisions": {"S": f"decision#{function}#{day:%Y-%m-%d}"}},
        )
        for page in pages:
            for row in page["Items"]:
                at, request = row["sk"]["S"].split("#")[:2]
                for one in row.get("decisions", {}).get("L", []):
                    yield Decided(at, request, _plain(one))


def _plain(value: dict[str, Any]) -> Any:
    """Converts a value of DynamoDB to a plain value. A decision contains only maps and texts."""
    ((kind, content),) = value.items()
    return {name: _plain(one) for name, one in content.items()} if kind == "M" else content
