"""Trains, as people meet them: waves, bakes, rollbacks, holds and promotions, in three accounts.

The route gets two waves: test, which bakes for some seconds, and then production. The end of a bake is followed up by
hand, instead of a minute later.
"""

import json
import time

import pytest

from tools.failure import Failure
from tools.layout import REGION
from tools.local_stack import job, train
from tools.local_stack.observed import decisions, execution_of, executions, ledger
from tools.local_stack.stack import eventually

# Long enough for a slow machine to see the deployment and let the alarm ring within the bake.
BAKE_SECONDS = 15
# pipeline-starter judges a bake this time after its end, because the history of alarms may be late.
SETTLING_SECONDS = 20
WAVES = (("one-box", "test", f"{BAKE_SECONDS}s"), ("production", "production", "0s"))


@pytest.fixture(scope="module", autouse=True)
def waves(stack, clone):
    """Gives the route its waves, after both accounts run the same commit, and restores the configuration."""
    clone.git("checkout", "--quiet", "-B", "main")
    commit = clone.commit({**train.application(), "api/prices.txt": "before the train\n"}, "Before the train")
    clone.push("main")
    for profile in job.PIPELINE_ACCOUNTS:
        job.wait_for_deployment(stack, profile, commit)
    before = {
        (profile, function): job.configure(stack, profile, function, train.route(WAVES))
        for profile, function in train.FUNCTIONS.items()
    }
    for profile in job.PIPELINE_ACCOUNTS:
        train.set_alarms(stack, profile, "OK")
    yield
    for (profile, function), variables in before.items():
        client = stack.client(profile, "lambda")
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})


@pytest.fixture(autouse=True)
def quiet(stack):
    """After each test, no alarm rings and nothing is held."""
    yield
    for profile in job.PIPELINE_ACCOUNTS:
        train.set_alarms(stack, profile, "OK")


def push(clone, what, answer=train.GOOD_LINE):
    """Pushes a commit that changes the application, and returns the commit."""
    commit = clone.commit({**train.application(answer), "api/prices.txt": f"{what}\n"}, what)
    clone.push("main")
    return commit


def bake(stack, commit, outcome="healthy"):
    """Waits for the end of the bake in test and follows up; returns the decision about the commit."""
    job.wait_for_deployment(stack, "test", commit)
    time.sleep(BAKE_SECONDS + SETTLING_SECONDS + 2)

    def probe():
        job.schedule(stack, "test", "pipeline-starter")
        found = decisions(stack, "test", "pipeline-starter", outcome)
        return [one for one in found if commit in json.dumps(one)]

    return eventually(f"the bake of {commit[:8]} ends as {outcome}", probe, job.PIPELINE_SECONDS)[-1]


def arrive(stack, commit):
    """Waits until production is healthy at the commit."""
    job.wait_for_deployment(stack, "production", commit)
    train.wait_for_state(stack, "production", "healthy", commit, job.EVENT_SECONDS)


def ran(stack, profile, commit):
    return execution_of(stack, profile, commit) is not None


def relayed(stack, outcome, commit):
    """The decisions of event-relay with this outcome about the commit."""
    return [one for one in decisions(stack, "repository", "event-relay", outcome) if one.get("commit") == commit]


def wait_for_relay(stack, outcome, commit):
    return eventually(f"event-relay decides {outcome}", lambda: relayed(stack, outcome, commit), job.EVENT_SECONDS)[-1]


def test_a_route_that_gets_waves_starts_nothing(stack):
    before = {profile: len(executions(stack, profile)) for profile in job.PIPELINE_ACCOUNTS}
    job.schedule(stack, "repository", "event-relay")
    assert {profile: len(executions(stack, profile)) for profile in job.PIPELINE_ACCOUNTS} == before
    assert "one-box" in train.ask(stack, action="train")


def test_a_commit_that_sets_off_an_alarm_is_rolled_back_and_the_next_one_goes_all_the_way(stack, clone):
    bad = push(clone, "A bad commit", train.BAD_LINE)
    job.wait_for_deployment(stack, "test", bad)
    assert "pear" in job.failure_of(stack, "test", job.APPLICATION_FUNCTION, {})["errorMessage"]
    train.set_alarms(stack, "test", "ALARM", train.ALARMS[:1])
    train.wait_for_state(stack, "test", "rolled-back", bad, job.PIPELINE_SECONDS)
    assert job.invoke(stack, "test", job.APPLICATION_FUNCTION, {})["apple"] == 120
    wait_for_relay(stack, "condemned", bad)
    train.set_alarms(stack, "test", "OK", train.ALARMS[:1])

    good = push(clone, "The correction")
    bake(stack, good)
    arrive(stack, good)
    assert not ran(stack, "production", bad)
    where = job.invoke(stack, "repository", "sekisho-event-relay", {"action": "where"})
    assert where.count(good[:7]) >= 2


def test_an_alarm_that_was_quiet_again_when_it_was_read_fails_the_bake(stack, clone):
    """The rule about alarms is off, as if its event were lost, and nobody reads the alarm while it rings."""
    events = stack.client("test", "events")
    events.disable_rule(Name="sekisho-alarm-state")
    try:
        commit = push(clone, "A commit with a flapping alarm")
        job.wait_for_deployment(stack, "test", commit)
        eventually("the bake begins", lambda: baking(stack, "test", commit), job.EVENT_SECONDS)
        train.set_alarms(stack, "test", "ALARM", train.ALARMS[:1])
        train.set_alarms(stack, "test", "OK", train.ALARMS[:1])
        bake(stack, commit, "unhealthy")
    finally:
        events.enable_rule(Name="sekisho-alarm-state")
    train.wait_for_state(stack, "test", "rolled-back", commit, job.PIPELINE_SECONDS)
    assert not ran(stack, "production", commit)


def baking(stack, profile, commit):
    rows = [row for row in ledger(stack, profile) if row["pk"] == "order"]
    return any(commit in json.dumps(row, default=str) and row.get("bake", {}).get("window") for row in rows)


def test_a_target_goes_back_by_itself_while_the_repository_account_is_out_of_reach(stack, clone):
    iam, role = stack.client("test", "iam"), f"sekisho-pipeline-starter-{REGION}"
    commit = push(clone, "A commit in bad times", train.BAD_LINE)
    job.wait_for_deployment(stack, "test", commit)
    statement = {"Effect": "Deny", "Action": "events:PutEvents", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role, PolicyName="outage", PolicyDocument=document)
    try:
        train.set_alarms(stack, "test", "ALARM", train.ALARMS[:1])
        train.wait_for_state(stack, "test", "rolled-back", commit, job.PIPELINE_SECONDS)
        assert job.invoke(stack, "test", job.APPLICATION_FUNCTION, {})["apple"] == 120
        assert not relayed(stack, "condemned", commit)
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="outage")

    def probe():
        job.schedule(stack, "test", "pipeline-starter")
        return relayed(stack, "condemned", commit)

    eventually("the report arrives afterwards", probe, 3 * job.EVENT_SECONDS)


def test_a_held_wave_takes_nothing_until_it_is_resumed_and_a_promotion_ignores_the_hold(stack, clone):
    with pytest.raises(Failure, match="InvalidRequest"):
        train.ask(stack, action="hold", wave="production")
    answer = train.ask(stack, action="hold", wave="production", reason="the sale on Friday")
    assert "production" in answer
    first = push(clone, "Held before production")
    bake(stack, first)
    job.schedule(stack, "repository", "event-relay")
    assert not ran(stack, "production", first)
    assert "the sale on Friday" in train.ask(stack, action="train")

    train.ask(stack, action="promote", wave="production", revision=first, reason="the customer waits")
    arrive(stack, first)
    second = push(clone, "Held as well")
    bake(stack, second)
    assert not ran(stack, "production", second)
    answer = train.ask(stack, action="resume", wave="production")
    # The answer names a failure after which only the next reconcile goes on. On this stack, nothing should fail.
    assert "The next reconcile goes on" not in answer
    arrive(stack, second)


def test_a_person_sends_a_wave_back_after_its_bake_was_over(stack, clone):
    good = push(clone, "The one before")
    bake(stack, good)
    arrive(stack, good)
    late = push(clone, "A fault that no alarm shows")
    bake(stack, late)
    arrive(stack, late)
    answer = train.ask(stack, action="rollback", wave="production", reason="customers complain")
    assert late[:7] in answer
    wait_for_relay(stack, "condemned", late)

    def is_back():
        newest = executions(stack, "production")[0]
        return newest["status"] == "Succeeded" and good in json.dumps(newest, default=str)

    eventually("production runs the commit before", is_back, job.PIPELINE_SECONDS)
    train.ask(stack, action="resume", wave="production")
    job.schedule(stack, "repository", "event-relay")
    with pytest.raises(Failure, match="Refused"):
        train.ask(stack, action="promote", wave="production", revision=late, reason="again")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"action": "hold", "route": "shopp", "reason": "x"}, "NotFound"),
        ({"action": "hold", "wave": "tokio", "reason": "x"}, "NotFound"),
        ({"action": "rollback", "reason": "x"}, "InvalidRequest"),
        ({"action": "promote", "wave": "one-box", "revision": "0" * 40, "reason": "x"}, "NotFound"),
        ({"action": "pardon", "revision": "0" * 40}, "InvalidRequest"),
        ({"pardon": "ABCDEFGH", "reason": "x"}, "NotFound"),
    ],
)
def test_a_request_with_a_mistake_names_it(stack, request_, error):
    with pytest.raises(Failure, match=error):
        if "action" in request_:
            train.ask(stack, **request_)
        else:
            job.invoke(stack, "repository", "sekisho-event-relay", request_)
