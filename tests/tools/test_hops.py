"""Single checks of `make doctor`, without a whole path."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tools.faults import T
from tools.layout import REGION
from tools.operations.account import Broken
from tools.operations.hops import alarm_names, need_alarms
from tools.operations.pipelines import artifact_store
from tools.operations.routes import Route


def test_the_artifact_store_of_the_pipelines_region_counts():
    here, there = {"location": "here"}, {"location": "there"}
    assert artifact_store({"artifactStore": here}, REGION) == here
    assert artifact_store({"artifactStores": {"eu-west-1": there, REGION: here}}, REGION) == here
    assert artifact_store({"artifactStores": {"eu-west-1": there}}, REGION) == {}


def test_all_alarms_of_the_account_are_listed(cloud):
    cloudwatch = cloud.client(T, "cloudwatch")
    cloudwatch.put_composite_alarm(AlarmName="shop", AlarmRule="TRUE")
    try:
        account: Any = SimpleNamespace(client=lambda service: cloud.client(T, service))
        names = alarm_names(account)
    finally:
        cloudwatch.delete_alarms(AlarmNames=["shop"])
    assert {"shop", "sekisho-pipeline-starter-errors"} <= set(names)


def test_a_wave_that_bakes_needs_alarms_but_not_too_many():
    path: Any = SimpleNamespace(pipelines=SimpleNamespace(id=T), unclear=[])

    def look(glob, *names):
        need_alarms(path, Route("shop", ("main",), (), (), "shop", "Source", wave="one-box", alarms=(glob,)), [*names])

    look("shop-*", "shop-errors", "orders")
    look("shop-*", *(f"shop-{number}" for number in range(100)))
    with pytest.raises(
        Broken, match=f"wave one-box of shop bakes on the alarms shop-\\*, of which account {T} has none"
    ):
        look("shop-*", "shop", "orders")
    with pytest.raises(Broken, match="has 101: more than 100 end as unknown"):
        look("shop-*", *(f"shop-{number}" for number in range(101)))
    assert path.unclear == []
    look("{shop,orders}-*", "shop-errors")
    assert len(path.unclear) == 1 and "wave one-box of shop" in path.unclear[0]
