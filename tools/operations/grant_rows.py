"""The grants in an account's ledger without a decision there: temp-access gave the access, but could not write it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3

from tools.operations.decision_log import Decided, plain

# What a request about a grant is decided as, whatever came of it.
DECIDED = {"granted", "extended", "widened", "scheduled", "unchanged", "failed", "refused"}
# A row whose grant was carried out. If an intent gave access, a follow-up decides it later.
CARRIED_OUT = {"granted", "revoked", "expired"}
REASON = "the ledger has this grant without its decision, which could not be written: see the function's log"


def unrecorded(
    session: boto3.Session, table: str, found: Iterable[Decided], period: tuple[datetime, datetime]
) -> Iterator[Decided]:
    """Yields a decision for each grant of the period whose own decision is missing.

    A row knows its last grant only. Its decision is one about the same access, at the time of the grant or later.
    """
    latest: dict[tuple[str, str, str], str] = {}
    for one in (one for one in found if one.decision["outcome"] in DECIDED):
        for kind in ("user", "role", "person"):
            name = one.decision.get("user_id") or one.decision.get(kind)
            if kind in one.decision and name:
                access = (kind, str(name), str(one.decision.get("profile")))
                latest[access] = max(latest.get(access, ""), one.at)
    for key, row in _rows(session, table):
        claimed = datetime.fromtimestamp(int(row["claimed"]) / 1000, UTC)
        at = claimed.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if period[0] <= claimed < period[1] and row["state"] in CARRIED_OUT and latest.get(key, "") < at:
            yield Decided(at, row["request"], _decision(key, row))


def _rows(session: boto3.Session, table: str) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """The rows with the time of their grant, each with the kind, the name or user id, and the profile."""
    pages = (
        session.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression="pk = :grants",
            ExpressionAttributeValues={":grants": {"S": "grant"}},
        )
    )
    for item in (item for page in pages for item in page["Items"]):
        row = plain({"M": item})
        kind, _, rest = row["sk"].partition("/")
        name, _, profile = rest.partition("/")
        if profile and {"claimed", "state", "request", "start", "end"} <= row.keys():
            yield (kind, name, profile), row


def _decision(key: tuple[str, str, str], row: dict[str, Any]) -> dict[str, Any]:
    kind, name, profile = key
    consent = row.get("consent", {})
    decision = {
        "outcome": "granted",
        "reason": REASON,
        kind: row.get("email", name),
        "user_id": name if kind == "person" else None,
        "profile": profile,
        "start": row.get("from", row["start"]),
        "until": row["end"],
        "because": row.get("reason"),
        "break_glass": "true" if consent.get("break_glass") else None,
        **{field: consent.get(field) for field in ("door", "approved_by", "code")},
    }
    return {field: value for field, value in decision.items() if value}
