"""The schema for editors refuses the same mistakes in a configuration as the functions do."""

import json
import tomllib
from typing import Any

import jsonschema
import pytest

from tools.layout import ROOT

CONFIG = ROOT / "config"
SCHEMA = jsonschema.Draft202012Validator(json.loads((CONFIG / "sekisho.schema.json").read_text()))
COMMITTED = (CONFIG / "sekisho.toml").read_text()


def test_the_committed_file_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    SCHEMA.validate(tomllib.loads(COMMITTED))


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ('branches   = ["main"', 'branchs = ["main"', ["route", 0]),
        ('"222222222222"', '"22222222222"', ["route", 0, "target", 0, "account"]),
        ('"222222222222"', "222222222222", ["route", 0, "target", 0, "account"]),
        ('"ap-northeast-1"', '"tokyo"', ["route", 0, "target", 0, "region"]),
        ('["api/**", "!**/*.md"]', '["!**/*.md"]', ["route", 0, "paths"]),
        ('["main", "release/*"]', "[]", ["route", 0]),
        ('["main", "release/*"]', '["!main", "!release/*"]', ["route", 0, "branches"]),
        ('repository = "shop"', 'name = "the shop"\nrepository = "shop"', ["route", 0, "name"]),
        ('repository = "shop"', 'region = "tokyo"\nrepository = "shop"', ["route", 0, "region"]),
        ('repository = "shop"', 'existing = "ignore"\nrepository = "shop"', ["route", 0, "existing"]),
        ('repository = "shop"', 'wave = []\nrepository = "shop"', ["route", 0]),
        ('repository = "shop"', "", ["route", 0]),
        ('repository = "shop"', 'image = "shop"', ["route", 0]),
        ('repository = "shop"', 'image = "shop"', ["route", 0, "branches"]),
        ('repository = "shop"', 'image = "shop"', ["route", 0, "paths"]),
        ('repository = "shop"', 'image = "shop"\nrepository = "shop"', ["route", 0, "repository"]),
        ('account  = "222222222222"', "", ["route", 0, "target", 0]),
        (
            'account  = "222222222222"',
            'account = "222222222222"\naccounts = ["333333333333"]',
            ["route", 0, "target", 0],
        ),
        ('account  = "222222222222"', "accounts = []", ["route", 0, "target", 0, "accounts"]),
        ('region   = "ap-northeast-1"', 'regions = ["us-east-1", "us-east-1"]', ["route", 0, "target", 0, "regions"]),
        ('region   = "ap-northeast-1"', 'regions = ["tokyo"]', ["route", 0, "target", 0, "regions", 0]),
        (
            'pipeline = "shop"',
            'pipeline = "shop"\nvariables = { TAG = "{Tag}" }',
            ["route", 0, "target", 0, "variables", "TAG"],
        ),
        (
            'pipeline = "shop"',
            'pipeline = "shop"\nvariables = { TAG = "" }',
            ["route", 0, "target", 0, "variables", "TAG"],
        ),
        (
            'pipeline = "shop"',
            'pipeline = "shop"\nvariables = { "a b" = "1" }',
            ["route", 0, "target", 0, "variables"],
        ),
        ("default_minutes = 180", "default_minutes = 0", ["access", "default_minutes"]),
        ("default_minutes = 180", "rest_minutes = 10081", ["access", "rest_minutes"]),
        ("default_minutes = 180", 'time_zone = "+09:00"', ["access", "time_zone"]),
        ("require_mfa    = true", 'require_mfa = "yes"', ["access", "profiles", "admin", "require_mfa"]),
        ("require_reason = true", "require_reason = 1", ["access", "profiles", "admin", "require_reason"]),
        ("max_minutes    = 60", "max_minutes = 0", ["access", "profiles", "admin", "max_minutes"]),
        ("mfa_minutes    = 60", 'mfa_minutes = "60"', ["access", "profiles", "admin", "mfa_minutes"]),
        ("mfa_minutes    = 60", 'approval = "two"', ["access", "profiles", "admin", "approval"]),
        ("mfa_minutes    = 60", "break_glass = 1", ["access", "profiles", "admin", "break_glass"]),
        ("mfa_minutes    = 60", 'approval = "another"\nbreak_glass = true', ["access", "profiles", "admin"]),
        *(
            ("[access.profiles.admin]", f"[access.{lines}]\n[access.profiles.admin]", ["access", *where])
            for lines, where in (
                ("people.board", ["people"]),
                ("people.hub", ["people"]),
                ("people.Hana", ["people"]),
                (f"people.{'a' * 33}", ["people"]),
                ("people.hana]\nmay_ask = ['ad min']\n[access.people.taro", ["people", "hana", "may_ask", 0]),
                ("people.hana]\nmay_approve = 'admin'\n[access.people.taro", ["people", "hana", "may_approve"]),
                ("people.hana]\nfor = ['prd-hana']\n[access.people.taro", ["people", "hana", "for", 0]),
                ("people.hana]\nfor = ['person/hana']\n[access.people.taro", ["people", "hana", "for", 0]),
                ("people.hana]\nmembers = []\n[access.people.taro", ["people", "hana", "members"]),
                ("people.hana]\nmay_aks = []\n[access.people.taro", ["people", "hana"]),
                ("accounts]\nproduction = '3333'\n[access.people.taro", ["accounts", "production"]),
                ("accounts]\nproduction = '333333333333/x'\n[access.people.taro", ["accounts", "production"]),
                ("accounts]\n'the prod' = '333333333333'\n[access.people.taro", ["accounts"]),
            )
        ),
        ('"logs:Get*"', '"logs"', ["access", "profiles", "read-only", "statements", 0, "actions", 9]),
        *(
            ("mfa_minutes    = 60", f'source_ips = ["{value}"]', ["access", "profiles", "admin", "source_ips", 0])
            for value in (
                "203.0.113.0/33",
                "203.0.113/24",
                "2001:db8::/129",
                "office",
                "10.1.0.0/16",
                "100.64.0.0/10",
                "127.0.0.1",
                "169.254.0.0/16",
                "172.16.0.0/12",
                "192.168.0.0/24",
                "::1",
                "fd12:3456::/32",
                "fe80::1",
            )
        ),
        (
            'resources = ["*"]',
            'resources = ["arn:aws:s3"]',
            ["access", "profiles", "read-only", "statements", 0, "resources", 0],
        ),
        ('repair = "update"', 'repair = "mend"', ["artifacts", "repair"]),
        (
            'repair = "update"',
            'repair = "update"\nconsumer_role = "arn:aws:iam:::role/build"',
            ["artifacts", "consumer_role"],
        ),
        ('repair = "update"', 'repair = "update"\nconfirm_above = -1', ["artifacts", "confirm_above"]),
        (
            'repair = "update"',
            'repair = "update-only"\nbuckets.Shared.repair = "copy"',
            ["artifacts", "buckets"],
        ),
        (
            'repair = "update"',
            'repair = "update"\nbuckets.shared.repair = "mend"',
            ["artifacts", "buckets", "shared", "repair"],
        ),
        (
            'repair = "update"',
            'repair = "update"\nbuckets.shared = { repair = "copy", partitions = ["shop/", ""] }',
            ["artifacts", "buckets", "shared", "partitions", 1],
        ),
    ],
)
def test_a_mistake_is_found_at_its_place(right, wrong, where):
    assert right in COMMITTED
    errors = list(SCHEMA.iter_errors(tomllib.loads(COMMITTED.replace(right, wrong, 1))))
    assert where in [list(error.absolute_path) for error in errors]


def valid(keys: str, value: str) -> bool:
    """Whether the committed file stays valid if a glob of this list has the value."""
    document = tomllib.loads(COMMITTED)
    document["route"][0][keys] = value if keys == "repository" else ["**", value]
    return SCHEMA.is_valid(document)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("paths", "./api/**"),
        ("paths", "!./api/**"),
        ("paths", "/api/**"),
        ("paths", "api/"),
        ("paths", "api//main.rs"),
        ("paths", "api/./main.rs"),
        ("paths", "../web"),
        ("branches", "refs/heads/main"),
        ("branches", "!refs/heads/wip/**"),
        ("branches", "^main$"),
        ("branches", "/main"),
        ("branches", "release/"),
        ("branches", "release/.*"),
        ("branches", "feature: x"),
        ("branches", "!"),
        ("tags", "refs/tags/v*"),
        ("tags", "^v"),
        ("repository", "arn:aws:codecommit:ap-northeast-1:111111111111:shop"),
        ("repository", "shop.git"),
        ("repository", "^shop$"),
        ("repository", "!shop"),
        ("repository", "team/shop"),
    ],
)
def test_a_glob_that_can_never_match_is_refused(keys, value):
    assert not valid(keys, value)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("paths", "^api$"),
        ("paths", ".github/**"),
        ("paths", "!**/*.md"),
        ("paths", "{./api/**,web/**}"),
        ("paths", "**/"),
        ("branches", "!wip/**"),
        ("branches", "main$"),
        ("branches", "[!/]*"),
        ("branches", "a.b/c"),
        ("branches", "fix!"),
        ("tags", "v[0-9]*.[0-9]*"),
        ("repository", "shop-{api,web}"),
        ("repository", "**/shop"),
        ("repository", "shop[!_]*"),
    ],
)
def test_a_glob_that_the_functions_accept_is_valid(keys, value):
    assert valid(keys, value)


def with_image(image: str, tag: str) -> dict[str, Any]:
    """The committed file with a route for images instead of its own."""
    document = tomllib.loads(COMMITTED)
    document["route"] = [{"image": image, "tags": ["**", tag], "target": document["route"][0]["target"]}]
    return document


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("shop", "v1.2.0"),
        ("team/shop-*", "!v0*"),
        ("**", "[!a]*"),
        ("{team/api,web}", "_1"),
        ("**/shop", "{v,w}*"),
    ],
)
def test_a_route_for_images_is_valid(image, tag):
    SCHEMA.validate(with_image(image, tag))


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("Shop", "v1"),
        ("111111111111.dkr.ecr.ap-northeast-1.amazonaws.com/shop:v1", "v1"),
        ("team//shop", "v1"),
        ("team/", "v1"),
        ("shop", "a/b"),
        ("shop", ".v1"),
        ("shop", "refs/images/v1"),
        ("shop", "!"),
        ("shop", "a b"),
    ],
)
def test_a_glob_for_images_that_can_never_match_is_refused(image, tag):
    assert not SCHEMA.is_valid(with_image(image, tag))


def test_every_new_key_is_valid():
    document = tomllib.loads(COMMITTED)
    route = document["route"][0]
    route |= {"name": "shop.1", "region": "us-east-1", "existing": "baseline", "branches": ["**", "!wip/**"]}
    lists = {"accounts": ["222222222222", "333333333333"], "regions": ["ap-northeast-1", "us-east-1"]}
    variables = {"TAG": "v-{tag}", "a@b-c_1": "{image} {previous}"}
    route["target"] = [{**lists, "pipeline": "shop", "action": "Source", "variables": variables}]
    SCHEMA.validate(document)


def test_every_key_of_a_person_is_valid():
    document = tomllib.loads(COMMITTED)
    access = document["access"]
    access["profiles"]["admin"]["approval"] = "another"
    access["profiles"]["read-only"] |= {"approval": "none", "break_glass": True}
    principals = ["user/prd-hana", "role/ops", "person/hana@example.com"]
    access["people"] = {
        "hana": {"may_ask": ["admin"], "for": principals, "may_approve": ["admin"]},
        "approvers": {"members": ["hana"]},
    }
    access["accounts"] = {"production": "333333333333", "old.one": "222222222222/us-gov-west-1"}
    SCHEMA.validate(document)


def with_wave(**keys: Any) -> dict[str, Any]:
    """The committed file with one wave instead of its targets. A key that is `None` is left out of the wave."""
    document = tomllib.loads(COMMITTED)
    route = document["route"][0]
    targets = route.pop("target")
    route["name"] = "shop"
    wave = {"name": "one-box", "target": targets[:1]} | keys
    route["wave"] = [{key: value for key, value in wave.items() if value is not None}]
    return document


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"bake": "90m", "alarms": ["shop-*", "!shop-noise"], "missing": "healthy", "retreat": "train"},
        {"at_once": 5, "tolerate": 0, "retreat": "target", "missing": "unknown"},
        {"bake": "0s"},
        {"bake": "168h", "alarms": ["*"]},
        {"bake": "10080m", "alarms": ["TargetTracking-service/shop/*"]},
        {"bake": "604800s", "alarms": ["shop errors"]},
        {"windows": ["Mon-Thu 10:00-16:00 Asia/Tokyo", "Mon,Wed 22:00-04:00 America/Argentina/Buenos_Aires"]},
        {"windows": ["Fri-Mon,Wed 00:00-24:00 Etc/GMT+9"]},
        {"closed": ["2026-12-24/2027-01-04 Asia/Tokyo"]},
    ],
)
def test_every_key_of_a_wave_is_valid(keys):
    SCHEMA.validate(with_wave(**keys))


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"name": None}, []),
        ({"name": "one box"}, ["name"]),
        ({"target": []}, ["target"]),
        ({"bake": "30m"}, []),
        ({"bake": "30m", "alarms": []}, []),
        *[
            ({"bake": bake, "alarms": ["a"]}, ["bake"])
            for bake in ("30", "169h", "604801s", "10081m", "1h30m", "1d", 30)
        ],
        ({"alarms": ["!shop-noise"]}, ["alarms"]),
        ({"alarms": ["arn:aws:cloudwatch:us-east-1:222222222222:alarm:shop"]}, ["alarms", 0]),
        ({"alarms": [""]}, ["alarms", 0]),
        ({"missing": "ignore"}, ["missing"]),
        ({"at_once": 0}, ["at_once"]),
        ({"tolerate": -1}, ["tolerate"]),
        ({"retreat": "all"}, ["retreat"]),
        ({"windows": []}, ["windows"]),
        *[
            ({"windows": [window]}, ["windows", 0])
            for window in (
                "",
                "10:00-16:00 Asia/Tokyo",
                "Mon 10:00-16:00",
                "Mon, Wed 10:00-16:00 UTC",
                "monday 10:00-16:00 UTC",
                "Mon-Mon 10:00-16:00 UTC",
                "Mon-Tue-Wed 10:00-16:00 UTC",
                "Mon- 10:00-16:00 UTC",
                "Mon 9:00-17:00 UTC",
                "Mon 24:00-10:00 UTC",
                "Mon 10:00-24:01 UTC",
                "Mon 10:00-10:00 UTC",
                "Mon 10:00-16:00 +09:00",
            )
        ],
        *[
            ({"closed": [closed]}, ["closed", 0])
            for closed in ("2026-12-24 UTC", "2026-12-24/2027-01-04", "24.12.2026/2027-01-04 UTC")
        ],
        ({"window": []}, []),
    ],
)
def test_a_mistake_in_a_wave_is_found_at_its_place(keys, where):
    errors = list(SCHEMA.iter_errors(with_wave(**keys)))
    assert ["route", 0, "wave", 0, *where] in [list(error.absolute_path) for error in errors]


def test_a_route_has_waves_with_a_name_or_targets():
    document = with_wave()
    route = document["route"][0]
    for key, value in (("name", None), ("target", route["wave"][0]["target"]), ("wave", None)):
        changed = {**route, key: value}
        document["route"][0] = {key: value for key, value in changed.items() if value is not None}
        assert [list(error.absolute_path) for error in SCHEMA.iter_errors(document)] == [["route", 0]]


@pytest.mark.parametrize(
    "value",
    [
        "203.0.113.0/24",
        "203.0.113.7",
        "172.32.0.0/16",
        "100.128.0.1",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::ffff:203.0.113.7",
    ],
)
def test_every_range_that_the_functions_accept_is_valid(value):
    SCHEMA.validate(tomllib.loads(COMMITTED.replace("mfa_minutes    = 60", f'source_ips = ["{value}"]')))


@pytest.mark.parametrize("rule", ["true", "false", "'^OPS-[0-9]+'"])
def test_every_rule_for_reasons_is_valid(rule):
    SCHEMA.validate(tomllib.loads(COMMITTED.replace("require_reason = true", f"require_reason = {rule}")))


@pytest.mark.parametrize("value", ["arn:aws:s3:::shop/*", "arn:aws:logs:*:*:log-group:/aws/*", "*"])
def test_every_resource_that_the_functions_accept_is_valid(value):
    SCHEMA.validate(tomllib.loads(COMMITTED.replace('resources = ["*"]', f'resources = ["{value}"]')))
