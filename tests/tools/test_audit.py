"""`make audit` writes what the ledgers say about access, and how long each principal had it."""

import csv
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests.tools.faults import R, T
from tests.tools.runner import run
from tests.tools.test_commands import make_would_run
from tools.failure import Failure
from tools.operations import audit
from tools.operations.decision_log import Decided
from tools.operations.environment import environment

NOW = datetime(2026, 11, 22, 11, tzinfo=UTC)
OWN = {"environment": "test", "account": T, "region": "ap-northeast-1"}
DAY = audit.period("2026-11-21", "2026-11-21")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(audit, "now", lambda: NOW)


def at(time, day="21"):
    return f"2026-11-{day}T{time}:00.000Z"


def decided(time, outcome, day="21", **more):
    decision = {"outcome": outcome, "reason": "it is so"} | more
    return Decided(at(time, day), f"request-{time}", decision)


def grant(time, until, outcome="granted", day="21", start=None, end_day="21", who=None, **more):
    window = {"start": (start or at(time, day)), "until": at(until, end_day)}
    named = {"profile": "admin"} | (who or {"user": "prd-user"})
    return decided(time, outcome, day, **(named | window | more))


def hours(*found, period=DAY):
    lines = audit.hours(found, OWN, period)
    return {f"{line['kind']}/{line['principal']}": float(line["hours"] or 0) for line in lines}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([grant("10:00", "12:00")], 2),
        ([grant("10:00", "12:00"), grant("11:00", "13:00", "extended", start=at("10:00"))], 3),
        ([grant("10:00", "12:00"), grant("11:00", "12:00", "widened", start=at("10:00"))], 2),
        # Two profiles at the same time are one access.
        ([grant("10:00", "12:00"), grant("11:00", "13:00", profile="read-only")], 3),
        ([grant("10:00", "12:00"), decided("10:30", "revoked", user="prd-user", policies="sekisho-admin")], 0.5),
        ([grant("10:00", "12:00"), decided("10:30", "revoked", user="prd-user", policies="sekisho-other")], 2),
        # The chain began at ten, but there was no access between the revoke and the next grant.
        (
            [
                grant("10:00", "12:00"),
                decided("10:30", "revoked", user="prd-user", policies="sekisho-admin"),
                grant("11:00", "12:00", start=at("10:00")),
            ],
            1.5,
        ),
        ([grant("10:00", "15:00", "scheduled", start=at("14:00"))], 1),
        # A sweep shortened what was scheduled.
        (
            [
                grant("10:00", "16:00", "scheduled", start=at("14:00")),
                grant("11:00", "15:00", "scheduled", start=at("14:00")),
            ],
            1,
        ),
        (
            [
                grant("10:00", "15:00", "scheduled", start=at("14:00")),
                decided("11:00", "revoked", user="prd-user", profile="admin"),
            ],
            0,
        ),
        # A follow-up reports a grant whose invocation died, or could not record it. The chain may have begun earlier,
        # and a revoke may have ended the access.
        ([grant("12:30", "12:00", start=at("11:00"), given=at("11:00"))], 1),
        ([grant("10:41", "11:00", start=at("10:00"), given=at("10:00"))], 1),
        ([grant("10:41", "12:00", "widened", start=at("08:00"), given=at("10:00"))], 2),
        (
            [
                grant("08:00", "09:00"),
                decided("10:15", "revoked", user="prd-user", policies="sekisho-admin"),
                grant("10:41", "10:15", start=at("08:00"), given=at("10:00")),
            ],
            1.25,
        ),
        # It was revoked before it began.
        (
            [
                decided("10:15", "revoked", user="prd-user", policies="sekisho-admin"),
                grant("10:16", "10:15", "scheduled", start=at("14:00"), given=at("10:00")),
            ],
            0,
        ),
        # Only the part within the period counts.
        ([grant("22:00", "02:00", day="20")], 2),
        ([grant("22:00", "02:00", end_day="22")], 2),
        ([grant("10:00", "12:00", "scheduled", day="10", start=at("10:00"))], 2),
    ],
)
def test_hours_are_those_with_access(found, expected):
    assert hours(*found).get("user/prd-user", 0) == expected


def test_principals_are_counted_apart_and_attempts_not_at_all():
    found = [
        grant("10:00", "12:00"),
        grant("10:00", "11:00", who={"role": "prd-user"}),
        grant("10:00", "11:00", "refused", who={"user": "stranger"}),
        grant("10:00", "11:00", "pending", who={"person": "hana@example.com"}),
        grant("10:00", "11:00", "approved", who={"person": "hana@example.com"}),
        decided("10:00", "failed"),
    ]
    assert hours(*found) == {"user/prd-user": 2, "role/prd-user": 1}


def test_a_person_is_who_has_the_user_id():
    def of(address, user):
        return {"person": address, "user_id": user}

    found = [
        grant("10:00", "12:00", who=of("hana@example.com", "id-1")),
        # The same person, in another spelling.
        grant("10:30", "13:00", "extended", start=at("10:00"), who=of("Hana@Example.com", "id-1")),
        decided("11:00", "revoked", policies="sekisho-admin", **of("hana@example.com", "id-1")),
        # The address leads to somebody else, whose access is ended by the user id.
        grant("14:00", "18:00", who=of("hana@example.com", "id-2")),
        decided("17:00", "revoked", policies="sekisho-admin", person="id-2"),
    ]
    lines = [(one["principal"], one["user_id"], one["hours"]) for one in audit.hours(found, OWN, DAY)]
    assert lines == [("hana@example.com", "id-1", "1.00"), ("hana@example.com", "id-2", "3.00")]
    assert audit.entry(found[0], OWN)["user_id"] == "id-1"


def test_a_line_says_who_asked_and_who_approved():
    more = {"door": "hana", "approved_by": "taro", "because": "OPS-7", "code": "ABCD2345"}
    line = audit.entry(grant("10:00", "12:00", **more), OWN)
    assert list(line) == list(audit.COLUMNS)
    wanted = {"asked_by": "hana", "approved_by": "taro", "reason": "OPS-7", "start": at("10:00"), "end": at("12:00")}
    assert line.items() >= (OWN | wanted | {"kind": "user", "principal": "prd-user", "outcome": "granted"}).items()
    declined = audit.entry(decided("10:00", "declined", user="a", door="hana", declined_by="taro"), OWN)
    assert (declined["asked_by"], declined["declined_by"]) == ("hana", "taro")
    ended = audit.entry(decided("10:00", "revoked", user="a", policies="sekisho-admin sekisho-read-only"), OWN)
    assert (ended["profile"], ended["asked_by"]) == ("admin read-only", None)


def test_a_period_is_of_days_or_times():
    assert (DAY.begin, DAY.end) == (datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC))
    assert DAY.name == "2026-11-21-to-2026-11-21"
    zoned = audit.period("2026-11-01T00:00:00+09:00", "2026-11-01T12:00:00+09:00")
    assert (zoned.begin, zoned.end) == (
        datetime(2026, 10, 31, 15, tzinfo=UTC),
        datetime(2026, 11, 1, 3, tzinfo=UTC),
    )
    # A grant begins at most 14 days after the request, and lasts at most 7 days.
    assert (zoned.days()[0], zoned.days()[-1]) == (
        datetime(2026, 10, 10, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("yesterday", "2026-11-21", "FROM=yesterday is neither a day nor a time"),
        ("2026-11-21", "2026-11-21T10:00", "TO=2026-11-21T10:00 is neither"),
        ("2026-11-31", "2026-12-01", "FROM=2026-11-31"),
        ("2026-11-21", "2026-11-20", "TO=2026-11-20 is not after FROM=2026-11-21"),
    ],
)
def test_a_period_that_is_none_is_refused(begin, end, expected):
    with pytest.raises(Failure, match=expected):
        audit.period(begin, end)


def put(cloud, account, time, *rows, day="21"):
    """Writes decisions to the account's ledger as the functions do."""
    items = [{"M": {name: {"S": value} for name, value in row.items()}} for row in rows]
    cloud.client(account, "dynamodb").put_item(
        TableName="sekisho-ledger",
        Item={
            "pk": {"S": f"decision#temp-access#2026-11-{day}"},
            "sk": {"S": f"{at(time, day)}#request-{time}"},
            "decisions": {"L": items},
            "request": {"S": f"request-{time}"},
        },
    )


@pytest.fixture
def both(cloud, config, monkeypatch, tmp_path):
    """Two environments that grant access, with decisions in their ledgers, and a folder for the files."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    access = {"user": "prd-user", "profile": "admin", "door": "hana", "reason": "access was given"}
    put(
        cloud,
        T,
        "10:00",
        access | {"outcome": "granted", "start": at("10:00"), "until": at("12:00"), "because": "=1+1"},
    )
    put(cloud, T, "10:05", {"outcome": "listed", "reason": "everybody"}, {"outcome": "failed", "reason": "-\n=x"})
    put(
        cloud,
        T,
        "10:00",
        access | {"outcome": "granted", "start": at("10:00", "22"), "until": at("12:00", "22")},
        day="22",
    )
    put(cloud, R, "09:00", {"outcome": "refused", "reason": "@no", "role": "ops", "because": "障害"})
    names = {name: environment(name) for name in ("test", "repository")}
    for one in names.values():
        one.parameters["GrantsAccess"] = "true"
    monkeypatch.setattr(audit, "environments", lambda: names)
    monkeypatch.setattr(audit, "environment", lambda name, _profile=None: names[name])
    monkeypatch.setattr(audit, "FOLDER", tmp_path / "audit")
    return tmp_path / "audit"


def test_the_files_cover_all_accounts(both, capsys):
    audit.main(["--from", "2026-11-21", "--to", "2026-11-21"])
    assert sorted(file.name for file in both.iterdir()) == [
        f"{name}-2026-11-21-to-2026-11-21.{kind}" for name in ("access", "hours") for kind in ("csv", "jsonl")
    ]
    lines = [json.loads(line) for line in (both / "access-2026-11-21-to-2026-11-21.jsonl").read_text().splitlines()]
    assert [(one["account"], one["outcome"], one["reason"]) for one in lines] == [
        (R, "refused", "障害"),
        (T, "granted", "=1+1"),
        (T, "failed", None),
    ]
    with (both / "access-2026-11-21-to-2026-11-21.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    # No cell is a formula.
    assert [(one["reason"], one["detail"]) for one in rows] == [
        ("障害", "'@no"),
        ("'=1+1", "access was given"),
        ("", "'-\n=x"),
    ]
    hours = (both / "hours-2026-11-21-to-2026-11-21.csv").read_text(encoding="utf-8-sig").splitlines()
    assert hours == [
        "environment,account,region,kind,principal,hours,user_id",
        f"test,{T},ap-northeast-1,user,prd-user,2.00,",
    ]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in printed] == ["3 decisions", "3 decisions", "1 principals", "1 principals"]
    assert all(line.split(": ")[0].endswith((".csv", ".jsonl")) for line in printed)


def test_one_account_alone(both):
    audit.main(["--env", "repository", "--from", "2026-11-21", "--to", "2026-11-22"])
    text = (both / "access-2026-11-21-to-2026-11-22.jsonl").read_text()
    assert [json.loads(line)["account"] for line in text.splitlines()] == [R]


@pytest.mark.usefixtures("both")
def test_access_that_goes_on_counts_until_now():
    wanted = audit.period("2026-11-22", "2026-11-22")
    (line,) = audit.audit([environment("test")], wanted).hours
    assert line["hours"] == "1.00"


def test_without_one_of_the_accounts_nothing_is_written(both, monkeypatch):
    def session():
        raise Failure("Profile repository gives no credentials.")

    found = vars(audit)["environment"]
    lost = SimpleNamespace(name="repository", session=session, does=lambda _: True)
    monkeypatch.setattr(
        audit, "environment", lambda name, profile: lost if name == "repository" else found(name, profile)
    )
    with pytest.raises(SystemExit, match="Nothing was written"):
        audit.main(["--from", "2026-11-21", "--to", "2026-11-21"])
    assert not both.exists()


@pytest.mark.usefixtures("both")
def test_a_profile_for_several_accounts_names_the_environment(monkeypatch):
    with pytest.raises(SystemExit, match="leads to one account"):
        audit.main(["--profile", "auditor", "--from", "2026-11-21", "--to", "2026-11-21"])
    asked, found = [], vars(audit)["environment"]

    def remember(name, profile):
        asked.append((name, profile))
        return found(name, profile)

    monkeypatch.setattr(audit, "environment", remember)
    audit.main(["--profile", "auditor-{env}", "--from", "2026-11-21", "--to", "2026-11-21"])
    assert asked == [("test", "auditor-test"), ("repository", "auditor-repository")]


def test_make_passes_the_period_and_refuses_an_account_without_access(config):
    command = make_would_run("audit", "FROM=2026-11-01", "TO=2026-11-30")
    assert '--from "2026-11-01" --to "2026-11-30"' in command
    code, output = run(config, "audit", "repository", "--from", "2026-11-01", "--to", "2026-11-30")
    assert (code, "Environment repository grants no access." in output) == (1, True)
