"""The grants in an account's ledger without a decision there: temp-access gave the access, but could not write it."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from tools.operations.decision_log import Decided, plain

# Decisions after which the principal has, or will have, access until the decision's `until`.
GIVING = {"granted", "extended", "widened", "scheduled"}
# What a request that was carried out is decided as.
CARRIED_OUT = GIVING | {"unchanged"}
# What a request about a grant is decided as, whatever came of it.
DECIDED = CARRIED_OUT | {"failed", "refused"}
# A row whose grant is over or was carried out. If an intent gave access, a follow-up decides it later.
SETTLED = {"granted", "revoked", "expired"}
# A grant begins at most this long after its decision.
AHEAD = timedelta(days=14)
REASON = "the ledger has this grant without its decision, which could not be written: see the function's log"
UNKNOWN = (
    "the ledger does not say what came of this request, whose decision could not be written: see the function's log"
)

Access = tuple[str, str, str]
Period = tuple[datetime, datetime]


def unrecorded(session: boto3.Session, table: str, found: Iterable[Decided], period: Period) -> Iterator[Decided]:
    """Yields a decision for each grant of the period whose own decision is missing."""
    known: dict[Access, list[Decided]] = {}
    for one in sorted(found, key=lambda one: one.at):
        for kind in ("user", "role", "person"):
            name = one.decision.get("user_id") or one.decision.get(kind)
            if kind in one.decision and name and one.decision["outcome"] in DECIDED:
                known.setdefault((kind, str(name), str(one.decision.get("profile"))), []).append(one)
    for access, row in _rows(session, table):
        if row["state"] in SETTLED:
            yield from missing(access, row, known.get(access, []), period)


def missing(access: Access, row: Mapping[str, Any], known: list[Decided], period: Period) -> Iterator[Decided]:
    """Yields the decisions that the row of a grant lacks, going by those about the same access, in order.

    A row has the ids of the last requests that were carried out, but describes its last grant only.
    """
    requests = [one["S"] for one in row.get("requests", [])]
    own = next((one for one in reversed(known) if requests and _is_of(one, requests[-1])), None)
    claimed = datetime.fromtimestamp(int(row["claimed"]) / 1000, UTC)
    if own and own.at >= _text(claimed):
        yield from _before(own, requests, _decision(access, row, "granted", REASON), known, period)
    elif period[0] <= claimed < period[1]:
        yield from _last(row, requests[-1] if requests and not own else "", _text(claimed), access, known)


def _last(row: Mapping[str, Any], request: str, at: str, access: Access, known: list[Decided]) -> Iterator[Decided]:
    """The last request about the row; `request` is its id if it was carried out."""
    later = [one for one in known if one.at >= at]
    if request and not any(one.decision["outcome"] in GIVING for one in later):
        yield Decided(at, request, _decision(access, row, "granted", REASON))
    elif not request and not later:
        yield Decided(at, request, _decision(access, row, "failed", UNKNOWN))


def _before(
    own: Decided, requests: list[str], described: dict[str, Any], known: list[Decided], period: Period
) -> Iterator[Decided]:
    """The grant before a request that found access, if no decision says who gave that."""
    start = datetime.fromisoformat(own.decision.get("start", own.at))
    lost = next((one for one in reversed(requests) if not any(_is_of(other, one) for other in known)), None)
    if own.decision["outcome"] in {"granted", "scheduled"} or not lost or start < period[0] + AHEAD:
        return
    ends = [
        (one.at, datetime.fromisoformat(one.decision["until"]))
        for one in known
        if one.decision["outcome"] in GIVING and "until" in one.decision
    ]
    earlier = [at for at, end in ends if at < own.at and end > start]
    if own.decision["outcome"] != "unchanged":
        if not earlier:
            named = {name: own.decision.get(name) for name in ("user", "role", "person", "user_id", "profile", "start")}
            decision = {name: value for name, value in named.items() if value} | {"until": own.at}
            yield Decided(_text(start), lost, decision | {"outcome": "granted", "reason": REASON})
    # A request that changes nothing leaves the row as that grant has written it.
    elif not any(end >= datetime.fromisoformat(described["until"]) for _, end in ends):
        yield Decided(max([_text(start), *earlier]), lost, described)


def _is_of(one: Decided, request: str) -> bool:
    """Whether the decision is the one of a request that was carried out. All approvals of a code are one request."""
    own = f"approval-{one.decision['code']}" if "code" in one.decision else one.request
    return one.decision["outcome"] in CARRIED_OUT and request in {own, one.request}


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rows(session: boto3.Session, table: str) -> Iterator[tuple[Access, dict[str, Any]]]:
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


def _decision(access: Access, row: Mapping[str, Any], outcome: str, reason: str) -> dict[str, Any]:
    kind, name, profile = access
    consent = row.get("consent", {})
    decision = {
        "outcome": outcome,
        "reason": reason,
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
