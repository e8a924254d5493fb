"""The layouts of the local stack: their environments, and `make up` beside a stack of another layout."""

import pytest

from tests.template import deployed
from tests.tools.test_commands import make_would_run
from tools.failure import Failure
from tools.layout import ACCOUNTS, LAYOUTS
from tools.local_stack import server, stack
from tools.operations import environment

# The lists of these accounts differ between the layouts.
ACCOUNTS_OF_PIPELINES = "PipelineAccountIds"


@pytest.fixture
def environments(monkeypatch):
    """A function that reads the environments of a layout."""

    def read(layout):
        monkeypatch.setattr(environment, "SAMCONFIG", LAYOUTS[layout].samconfig)
        return environment.environments()

    return read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_environment_has_the_account_and_parameters_of_its_layout(environments, layout):
    known = deployed.source()["Parameters"]
    for name, one in environments(layout).items():
        assert one.account == LAYOUTS[layout].accounts[name.removeprefix("local-")], name
        assert set(one.parameters) <= set(known), name
        repositories = environments(layout)[one.repositories]
        assert repositories.does("HostsRepositories")
        assert one.parameters["RepositoryAccountId"] == repositories.account
        pipelines = {
            other.account
            for other in environments(layout).values()
            if other.repositories == one.repositories and other.does("HostsPipelines")
        }
        assert set(one.parameters[ACCOUNTS_OF_PIPELINES].split(",")) == pipelines, name


@pytest.mark.parametrize("prefix", ["", "local-"])
def test_two_accounts_have_the_parameters_of_three(environments, prefix):
    three, two = environments("three"), environments("two")

    def parameters(one):
        return {name: value for name, value in one.parameters.items() if name != ACCOUNTS_OF_PIPELINES}

    both = parameters(three[f"{prefix}repository"]) | parameters(three[f"{prefix}test"])
    assert parameters(two[f"{prefix}test"]) == both
    assert parameters(two[f"{prefix}production"]) == parameters(three[f"{prefix}production"])


@pytest.mark.parametrize("about", [{"layout": "two"}, {}], ids=["two", "a record of an earlier version"])
def test_a_running_stack_keeps_its_layout(monkeypatch, tmp_path, capsys, about):
    """The second `make up` deploys to the running stack, in the layout that it has."""
    found = []
    monkeypatch.setattr(stack, "LOCAL", tmp_path)
    monkeypatch.setattr(server, "running", lambda _: {"pid": 1, "started": 1, "port": 4566} | about)
    monkeypatch.setattr(stack, "build_for_local_use", lambda: tmp_path)
    monkeypatch.setattr(stack, "deploy", lambda given, _: found.append(given))
    monkeypatch.setattr(stack, "_explain", lambda _: None)
    running = about.get("layout", "three")
    (other,) = set(LAYOUTS) - {running}
    with pytest.raises(Failure, match=f"already runs in the layout {running}: `make down` first for {other}"):
        stack.up(None, layout=other)
    assert found == []
    stack.up(None)
    stack.up(None, layout=running)
    assert [one.layout for one in found] == [running, running]
    assert capsys.readouterr().out.count(f"what is waiting: {found[0].board}\n") == 2
    assert found[0].accounts["test"] == ACCOUNTS["repository" if running == "two" else "test"]


def test_make_up_passes_the_layout_on():
    assert ' up  --empty --layout "two"' in make_would_run("up", "LAYOUT=two", "EMPTY=1")
    assert "--layout" not in make_would_run("up", LAYOUT="two")
