"""Writes who asked for access, who approved it, to what, why, and from when to when, and the hours of each principal.

    make audit FROM=2026-11-01 TO=2026-11-30        ENV=… for one account instead of all that grant access

FROM and TO are days in UTC, TO included, or times with a UTC offset. The deploy role may not read the ledger: PROFILE=…
names credentials that may. For several accounts, the name contains {env}, for which the environment's name is put in.
The files are in the folder audit: CSV for spreadsheets, and JSON Lines for programs.
"""

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.layout import LEDGER, ROOT
from tools.operations.decision_log import Decided, decisions
from tools.operations.environment import Environment, environment, environments

FUNCTION = "temp-access"
FOLDER = ROOT / "audit"
# A grant is decided at most 14 days before it begins, and a chain of grants lasts at most 7 days.
EARLIER = timedelta(days=21)
# Decisions that concern nobody's access.
LEFT_OUT = {"previewed", "listed", "helped", "swept", "idle"}
# Decisions after which the principal has, or will have, access until the decision's `until`.
GIVING = {"granted", "extended", "widened", "scheduled"}
POLICY = "sekisho-"
KINDS = ("user", "role", "person")
COLUMNS = (
    *("at", "environment", "account", "region", "outcome", "kind", "principal", "profile", "asked_by", "approved_by"),
    *("reason", "start", "end", "code", "break_glass", "detail", "request", "user_id"),
    "declined_by",
)
HOURS = ("environment", "account", "region", "kind", "principal", "hours", "user_id")
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Entry = dict[str, str | None]


@dataclass(frozen=True)
class Period:
    """The time that an audit covers, without its end. `name` is its part of the names of files."""

    begin: datetime
    end: datetime
    name: str

    def days(self) -> list[datetime]:
        """The days whose decisions matter: those of the time, and those of grants that began before it."""
        first = datetime.combine((self.begin - EARLIER).astimezone(UTC), time(), UTC)
        count = (self.end - first) // timedelta(days=1) + 1
        return [first + timedelta(days=number) for number in range(count)]


@dataclass
class Audit:
    """What the accounts' ledgers say about the period."""

    period: Period
    entries: list[Entry] = field(default_factory=list)
    hours: list[Entry] = field(default_factory=list)


def period(begin: str, end: str) -> Period:
    """The period from FROM to TO; fails if one of them is no time, or if they are in the wrong order."""
    first, last = _moment("FROM", begin), _moment("TO", end)
    if len(end) == len("2026-11-30"):
        last += timedelta(days=1)
    if last <= first:
        raise Failure(f"TO={end} is not after FROM={begin}: the period would be empty.")
    return Period(first, last, re.sub(r"[^0-9A-Za-z-]", "", f"{begin}_{end}".replace("_", "-to-")))


def now() -> datetime:
    """The current time: hours to come do not count."""
    return datetime.now(UTC)


def _moment(variable: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return found.replace(tzinfo=UTC)
        if found.tzinfo is not None:
            return found
    except ValueError:
        pass
    raise Failure(
        f"{variable}={text} is neither a day nor a time with a UTC offset: write {variable}=2026-11-01, or "
        f"{variable}=2026-11-01T00:00:00+09:00."
    )


def audit(targets: Iterable[Environment], wanted: Period) -> Audit:
    """Reads the ledgers of the accounts; fails if one can't be read, because an audit must not lack an account."""
    result, unread = Audit(wanted), []
    for target in targets:
        try:
            found = list(decisions(target.session(), LEDGER, FUNCTION, wanted.days()))
        except (Failure, ClientError, BotoCoreError) as error:
            unread.append(f"{target.name}: {error}")
            continue
        own = {"environment": target.name, "account": target.account, "region": target.region}
        result.entries += [entry(one, own) for one in found if _is_audited(one, wanted)]
        result.hours += hours(found, own, wanted)
    if unread:
        raise Failure("\n".join(["these ledgers can't be read (the deploy role may not; PROFILE=… may):", *unread]))
    result.entries.sort(key=lambda one: str(one["at"]))
    return result


def _is_audited(one: Decided, wanted: Period) -> bool:
    return one.decision["outcome"] not in LEFT_OUT and wanted.begin <= datetime.fromisoformat(one.at) < wanted.end


def entry(one: Decided, own: Mapping[str, str | None]) -> Entry:
    """The line of a decision. Decisions of an earlier version do not say who asked."""
    decision = one.decision
    kind, principal = _principal(decision)
    values = dict(own) | {
        "at": one.at,
        "outcome": decision["outcome"],
        "kind": kind,
        "principal": principal,
        "profile": decision.get("profile") or _profiles(decision),
        "asked_by": decision.get("door"),
        "approved_by": decision.get("approved_by"),
        "reason": decision.get("because"),
        "start": decision.get("start"),
        "end": decision.get("until"),
        "code": decision.get("code"),
        "break_glass": decision.get("break_glass"),
        "detail": decision["reason"],
        "request": one.request,
        "user_id": decision.get("user_id"),
        "declined_by": decision.get("declined_by"),
    }
    return {column: values[column] for column in COLUMNS}


def _principal(decision: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return next(((kind, decision[kind]) for kind in KINDS if kind in decision), (None, None))


def _profiles(decision: Mapping[str, Any]) -> str | None:
    """The profiles of the policies that a revoke ended."""
    names = [name.removeprefix(POLICY) for name in decision.get("policies", "").split()]
    return " ".join(names) or None


Windows = list[tuple[datetime, datetime]]


def hours(found: Iterable[Decided], own: Mapping[str, str | None], wanted: Period) -> list[Entry]:
    """The hours for which each principal had access in the period, with several profiles at a time counted once.

    The user id tells who a person is: an address may be spelled in several ways, and lead to another user later.
    """
    principals: dict[tuple[str, str], dict[str, Windows]] = {}
    names: dict[tuple[str, str], tuple[str, str | None]] = {}
    for one in sorted(found, key=lambda one: one.at):
        kind, principal = _principal(one.decision)
        if kind and principal:
            identity = one.decision.get("user_id")
            key = (kind, identity or principal)
            if identity or key not in names:
                names[key] = (principal, identity)
            _follow(principals.setdefault(key, {}), one)
    lines: list[Entry] = []
    for key, profiles in sorted(principals.items()):
        kind, (principal, identity) = key[0], names[key]
        windows = [
            (max(begin, wanted.begin), min(end, wanted.end, now()))
            for windows in profiles.values()
            for begin, end in windows
        ]
        if total := _length(windows):
            lines.append(
                dict(own)
                | {"kind": kind, "principal": principal, "hours": f"{total / timedelta(hours=1):.2f}"}
                | {"user_id": identity}
            )
    return lines


def _follow(profiles: dict[str, Windows], one: Decided) -> None:
    """Changes the windows of a principal's profiles as the decision did."""
    decision, at = one.decision, datetime.fromisoformat(one.at)
    if decision["outcome"] in GIVING and "until" in decision:
        # A chain may have begun long before the grant that goes on with it. A follow-up decides after the access was
        # given, and says in `given` when that was.
        start, end, given = (datetime.fromisoformat(decision.get(name, one.at)) for name in ("start", "until", "given"))
        begin = max(start, given)
        profiles[decision["profile"]] = [*_until(profiles.get(decision["profile"], []), at), (begin, end)]
    elif decision["outcome"] == "revoked":
        for profile in (_profiles(decision) or decision.get("profile") or " ".join(profiles)).split():
            profiles[profile] = _until(profiles.get(profile, []), at)


def _until(windows: Windows, at: datetime) -> Windows:
    """What of the windows is before a time."""
    return [(begin, min(end, at)) for begin, end in windows if begin < at]


def _length(windows: Windows) -> timedelta:
    """The length of the windows' union."""
    total, reached = timedelta(), datetime.min.replace(tzinfo=UTC)
    for begin, end in sorted(windows):
        total += max(end - max(begin, reached), timedelta())
        reached = max(reached, end)
    return total


def write(result: Audit, folder: Path) -> list[Path]:
    """Writes the four files; returns their paths."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, lines, columns in (
        ("access", result.entries, COLUMNS),
        ("hours", result.hours, HOURS),
    ):
        path = folder / f"{name}-{result.period.name}"
        # UTF-8 with a mark at the beginning: Excel takes the file for another encoding without it.
        with path.with_suffix(".csv").open("w", encoding="utf-8-sig", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            rows.writerows([_cell(line[column]) for column in columns] for line in lines)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.with_suffix(".jsonl").write_text(text, encoding="utf-8")
        written += [path.with_suffix(".csv"), path.with_suffix(".jsonl")]
    return written


def _cell(value: str | None) -> str:
    """A cell that a spreadsheet shows as text: an apostrophe before what would be a formula."""
    return f"'{value}" if value and value.startswith(FORMULA) else value or ""


def _targets(name: str | None, profile: str | None) -> list[Environment]:
    """The environments to audit, with other credentials if a profile is given."""
    names = [name] if name else [one.name for one in environments().values() if one.does("GrantsAccess")]
    if len(names) > 1 and profile and "{env}" not in profile:
        raise Failure(
            f"PROFILE={profile} leads to one account, and {', '.join(names)} grant access: name one with ENV=…, or "
            "write {env} in PROFILE, for which the environment's name is put in."
        )
    found = [environment(one, profile.replace("{env}", one) if profile else None) for one in names]
    if not found or not all(one.does("GrantsAccess") for one in found):
        raise Failure(f"Environment {name} grants no access." if name else "No environment grants access.")
    return found


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make audit", description="Writes who asked for access and who approved it")
    parser.add_argument("--env", metavar="ENV", help="audits only this account")
    parser.add_argument("--profile", help="names other credentials than the environment's own; {env} is its name")
    parser.add_argument("--from", required=True, dest="begin", metavar="FROM", help="a day in UTC, or a time")
    parser.add_argument("--to", required=True, metavar="TO", help="a day in UTC, which is included, or a time")
    asked = parser.parse_args(arguments)
    try:
        wanted = period(asked.begin, asked.to)
        result = audit(_targets(asked.env, asked.profile), wanted)
        paths = write(result, FOLDER)
    except (Failure, OSError) as error:
        sys.exit(f"Nothing was written. {error}")
    for path, count in zip(paths, (len(lines) for lines in (result.entries, result.hours) for _ in "12"), strict=True):
        print(f"{os.path.relpath(path)}: {count} {'decisions' if path.name.startswith('access') else 'principals'}")


if __name__ == "__main__":
    main(sys.argv[1:])
