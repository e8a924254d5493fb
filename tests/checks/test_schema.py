"""The schema for editors refuses the same mistakes in a configuration as the functions do."""

import json
import tomllib

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
        ("default_minutes = 180", "default_minutes = 0", ["access", "default_minutes"]),
        ("require_mfa = true", 'require_mfa = "yes"', ["access", "profiles", "read-only", "require_mfa"]),
        ('"logs:Get*"', '"logs"', ["access", "profiles", "read-only", "statements", 0, "actions", 1]),
        ('"203.0.113.0/24"', '"203.0.113.0/33"', ["access", "profiles", "read-only", "source_ips", 0]),
        ('"203.0.113.0/24"', '"203.0.113/24"', ["access", "profiles", "read-only", "source_ips", 0]),
        ('"203.0.113.0/24"', '"2001:db8::/129"', ["access", "profiles", "read-only", "source_ips", 0]),
        ('"203.0.113.0/24"', '"office"', ["access", "profiles", "read-only", "source_ips", 0]),
        (
            'resources = ["*"]',
            'resources = ["arn:aws:s3"]',
            ["access", "profiles", "admin", "statements", 0, "resources", 0],
        ),
        ('repair = "update"', 'repair = "mend"', ["artifacts", "repair"]),
        (
            'repair = "update"',
            'repair = "update"\nconsumer_role = "arn:aws:iam:::role/build"',
            ["artifacts", "consumer_role"],
        ),
    ],
)
def test_a_mistake_is_found_at_its_place(right, wrong, where):
    assert right in COMMITTED
    errors = list(SCHEMA.iter_errors(tomllib.loads(COMMITTED.replace(right, wrong, 1))))
    assert where in [list(error.absolute_path) for error in errors]


@pytest.mark.parametrize(
    "value", ["203.0.113.0/24", "203.0.113.7", "0.0.0.0/0", "2001:db8::/32", "::1", "::ffff:203.0.113.7"]
)
def test_every_range_that_the_functions_accept_is_valid(value):
    SCHEMA.validate(tomllib.loads(COMMITTED.replace("203.0.113.0/24", value)))


@pytest.mark.parametrize("value", ["arn:aws:s3:::shop/*", "arn:aws:logs:*:*:log-group:/aws/*", "*"])
def test_every_resource_that_the_functions_accept_is_valid(value):
    SCHEMA.validate(tomllib.loads(COMMITTED.replace('resources = ["*"]', f'resources = ["{value}"]')))
