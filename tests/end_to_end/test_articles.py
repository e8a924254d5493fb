"""The pages in docs/from are followed as printed: most of them in the layout with two accounts, two in empty accounts.

The English page runs. tests/checks/test_pages.py shows that the Japanese page has the same commands and outputs.
"""

import json
import re
import shutil

import pytest

from tests.pages import Page
from tools.build import build
from tools.layout import ACCOUNTS, ARCHITECTURE, BUS, ROOT
from tools.local_stack.stack import deployed_profiles, temporary_stack

FROM = ROOT / "docs" / "from"
# The pages by the command with which they begin.
BEGIN = {
    "make up LAYOUT=two": ("lambda-multi-account", "ecr-organizational-unit", "slack-temporary-access"),
    "make up EMPTY=1": ("codecommit-cross-account-pipeline", "sam-deploy-other-account"),
}


def page(slug):
    """The page, once it is certain that it begins and ends as the fixtures do."""
    found = Page(FROM / f"{slug}.md")
    (begin,) = [command for command, slugs in BEGIN.items() if slug in slugs]
    assert found.around == [begin, *(["make build"] if "EMPTY" in begin else []), "make down"]
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The repository and the test pipelines in one account, and production in another."""
    with temporary_stack(tmp_path_factory.mktemp("two") / "local", layout="two") as found:
        yield found


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Empty accounts, and release binaries, which `make build` builds for the reader."""
    build()
    with temporary_stack(tmp_path_factory.mktemp("empty") / "local", empty=True) as found:
        yield found


def test_every_page_is_followed():
    slugs = {file.name.partition(".")[0] for file in FROM.glob("*.md")}
    assert slugs == {slug for some in BEGIN.values() for slug in some}


def test_the_accounts_are_deployed_in_the_documented_order(two):
    text = (ROOT / "docs" / "deploy.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| two |")]
    assert re.findall(r"`make deploy ENV=(\w+)`", row) == deployed_profiles(two) == ["test", "production"]
    assert (two.accounts["repository"], two.accounts["test"]) == (ACCOUNTS["repository"], ACCOUNTS["repository"])


def test_one_bus_takes_the_orders_and_the_reports_of_the_account_with_the_repository(two):
    outputs = two.outputs("test")
    assert outputs["EventBusArn"] == outputs["ReportBusArn"]
    policy = json.loads(two.client("test", "events").describe_event_bus(Name=BUS)["Policy"])
    assert [one["Sid"] for one in policy["Statement"]] == ["Relay", "Report"]


@pytest.mark.parametrize("slug", BEGIN["make up LAYOUT=two"])
def test_a_reader_with_two_accounts_follows_the_page(two, slug):
    shutil.rmtree(two.places.folder / "shop", ignore_errors=True)
    page(slug).follow(two.places.folder)


@pytest.mark.parametrize("slug", BEGIN["make up EMPTY=1"])
def test_a_reader_with_empty_accounts_follows_the_page(empty, slug):
    shipped = (ROOT / "samconfig.toml").read_bytes()
    page(slug).follow(empty.places.folder, Architecture=ARCHITECTURE)
    assert (ROOT / "samconfig.toml").read_bytes() == shipped
