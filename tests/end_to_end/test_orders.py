"""Orders and reports, as people meet them: a target that joins, a target that is down, and a pipeline that is busy.

An account is "deployed with another configuration" by pointing its function to another file. Time passes by moving the
times in the ledger back, because nobody waits for five minutes here; the schedules' events are sent by hand.
"""

import json

import pytest

from tools.layout import ACCOUNTS, LEDGER, PIPELINE, REGION, REPOSITORY
from tools.local_stack import job
from tools.local_stack.observed import decisions, execution_of, executions, ledger
from tools.local_stack.stack import eventually

ROLES = {"event-relay": f"sekisho-event-relay-{REGION}", "pipeline-starter": f"sekisho-pipeline-starter-{REGION}"}


def route(branches, profiles, more=""):
    """The configuration with one route, from the branches of the repository to the pipelines of the accounts."""
    accounts = json.dumps([ACCOUNTS[profile] for profile in profiles])
    return (
        f'[[route]]\nrepository = "{REPOSITORY}"\nbranches = {json.dumps(branches)}\n{more}\n'
        f'[[route.target]]\naccounts = {accounts}\nregion = "{REGION}"\n'
        f'pipeline = "{PIPELINE}"\naction = "Source"\n'
    )


@pytest.fixture
def configure(stack):
    """A function that gives an account's function another configuration; afterwards each gets its own one back."""
    changed: dict[tuple[str, str], dict[str, str]] = {}

    def configure(profile, function, text):
        variables = job.configure(stack, profile, function, text)
        changed.setdefault((profile, function), variables)

    yield configure
    for (profile, function), variables in changed.items():
        client = stack.client(profile, "lambda")
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})


@pytest.fixture
def deny(stack):
    """A function that denies an action to a function's role, and returns a function that takes the denial back."""
    left = []

    def deny(profile, function, action, resource="*"):
        iam, role = stack.client(profile, "iam"), ROLES[function]
        statement = {"Effect": "Deny", "Action": action, "Resource": resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=role, PolicyName="outage", PolicyDocument=document)
        left.append((iam, role))

        def allow():
            left.remove((iam, role))
            iam.delete_role_policy(RoleName=role, PolicyName="outage")

        return allow

    yield deny
    for iam, role in left:
        iam.delete_role_policy(RoleName=role, PolicyName="outage")


def reconcile(stack):
    return job.schedule(stack, "repository", "event-relay")


def follow_up(stack, profile):
    return job.schedule(stack, profile, "pipeline-starter")


def let_an_hour_pass(stack, profile):
    """Moves the times of all orders in an account's ledger back by an hour, so that the next attempt is due."""
    table = stack.client(profile, "dynamodb")
    for row in ledger(stack, profile):
        if row["pk"].startswith("target#"):
            update, values = "SET #order.offered = #order.offered - :hour", {":hour": {"N": "3600000"}}
        elif row["pk"] == "order":
            continue
        else:
            continue
        if row.get("order"):
            table.update_item(
                TableName=LEDGER,
                Key={"pk": {"S": row["pk"]}, "sk": {"S": row["sk"]}},
                UpdateExpression=update,
                ExpressionAttributeNames={"#order": "order"},
                ExpressionAttributeValues=values,
            )


def push(clone, branch, what):
    """Pushes a commit that changes the application, and returns the commit."""
    clone.git("checkout", "--quiet", "-B", branch)
    commit = clone.commit({"api/prices.txt": f"{what}\n"}, what)
    clone.push(branch)
    return commit


@pytest.fixture(scope="module", autouse=True)
def quiet(stack, clone):
    """Before the first test, all accounts run the same commit."""
    clone.git("checkout", "--quiet", "-B", "main")
    commit = clone.commit({**job.application(), "api/prices.txt": "before\n"}, "Before the orders")
    clone.push("main")
    for profile in job.PIPELINE_ACCOUNTS:
        job.wait_for_deployment(stack, profile, commit)


def ran(stack, profile, commit):
    return execution_of(stack, profile, commit) is not None


def test_an_account_that_joins_a_route_gets_the_head_even_if_it_is_deployed_last(stack, clone, configure):
    """The relay knows the new target first; the account's own starter still has the old route and refuses the order."""
    only_test = route(["main"], ["test"])
    for profile, function in (("repository", "event-relay"), ("production", "pipeline-starter")):
        configure(profile, f"sekisho-{function}", only_test)
    reconcile(stack)
    commit = push(clone, "main", "For test alone")
    job.wait_for_deployment(stack, "test", commit)

    configure("repository", "sekisho-event-relay", route(["main"], job.PIPELINE_ACCOUNTS))
    before = len(decisions(stack, "production", "pipeline-starter"))
    reconcile(stack)
    job.wait_for_decision(stack, "production", "pipeline-starter", before, "filtered")
    refusal = job.wait_for_decision(stack, "repository", "event-relay", 0, "refused")
    assert ACCOUNTS["production"] in json.dumps(refusal)
    assert not ran(stack, "production", commit)

    configure("production", "sekisho-pipeline-starter", route(["main"], job.PIPELINE_ACCOUNTS))
    let_an_hour_pass(stack, "repository")
    reconcile(stack)
    job.wait_for_deployment(stack, "production", commit)
    assert len([one for one in executions(stack, "test") if commit in json.dumps(one, default=str)]) == 1


def test_a_pipeline_that_two_branches_feed_never_goes_back_to_the_order_that_waited(stack, clone, configure, deny):
    both = route(["main", "hotfix"], ["test"])
    configure("repository", "sekisho-event-relay", both)
    configure("test", "sekisho-pipeline-starter", both)
    allow = deny("test", "pipeline-starter", "codepipeline:StartPipelineExecution")
    before = len(decisions(stack, "test", "pipeline-starter"))
    first = push(clone, "main", "First, and it waits")
    job.wait_for_decision(stack, "test", "pipeline-starter", before, "waiting")
    before = len(decisions(stack, "test", "pipeline-starter"))
    second = push(clone, "hotfix", "Second, from another branch")
    job.wait_for_decision(stack, "test", "pipeline-starter", before, "waiting")

    allow()
    started = eventually(
        "the newer order starts by itself",
        lambda: [one for one in follow_up_when_due(stack, "test") if one["outcome"] == "started"],
        job.PIPELINE_SECONDS,
    )
    assert [one["commit"] for one in started] == [second]
    job.wait_for_deployment(stack, "test", second)
    follow_up(stack, "test")
    assert not ran(stack, "test", first)
    clone.git("checkout", "--quiet", "main")


def follow_up_when_due(stack, profile):
    """Sends the minute's event after making every waiting order due."""
    table = stack.client(profile, "dynamodb")
    for row in ledger(stack, profile):
        waiting = row.get("progress", {}).get("waiting") if row["pk"] == "order" else None
        if waiting:
            table.update_item(
                TableName=LEDGER,
                Key={"pk": {"S": row["pk"]}, "sk": {"S": row["sk"]}},
                UpdateExpression="SET progress.waiting.#next = :now",
                ExpressionAttributeNames={"#next": "next"},
                ExpressionAttributeValues={":now": {"N": "0"}},
            )
    return follow_up(stack, profile)


def test_old_branches_are_not_deployed_when_a_glob_first_covers_them(stack, clone, configure):
    for number in (1, 2, 3):
        push(clone, f"old/{number}", f"An old branch, {number}")
    with_old = route(["main", "old/*"], ["test"])
    configure("test", "sekisho-pipeline-starter", with_old)
    ran_before = len(executions(stack, "test"))
    before = len(decisions(stack, "repository", "event-relay"))
    configure("repository", "sekisho-event-relay", with_old)
    reconcile(stack)
    baseline = job.wait_for_decision(stack, "repository", "event-relay", before, "baseline")
    assert REPOSITORY in json.dumps(baseline)
    reconcile(stack)
    assert len(executions(stack, "test")) == ran_before

    commit = push(clone, "old/2", "A new commit on an old branch")
    job.wait_for_deployment(stack, "test", commit)
    assert len(executions(stack, "test")) == ran_before + 1
    clone.git("checkout", "--quiet", "main")


def test_a_bus_that_was_down_gets_its_order_without_anybodys_help(stack, clone, deny):
    bus = f"arn:aws:events:{REGION}:{ACCOUNTS['production']}:event-bus/sekisho"
    allow = deny("repository", "event-relay", "events:PutEvents", bus)
    commit = push(clone, "main", "While the bus of production is down")
    job.wait_for_deployment(stack, "test", commit)
    let_an_hour_pass(stack, "repository")
    reconcile(stack)
    assert not ran(stack, "production", commit)

    allow()
    let_an_hour_pass(stack, "repository")
    reconcile(stack)
    job.wait_for_deployment(stack, "production", commit)
    where = job.invoke(stack, "repository", "sekisho-event-relay", {"action": "where"})
    assert all(f"{ACCOUNTS[profile]}" in where for profile in job.PIPELINE_ACCOUNTS)
    assert where.count(commit[:7]) >= 2


def test_a_codepipeline_that_was_down_starts_the_order_without_anybodys_help(stack, clone, deny):
    allow = deny("production", "pipeline-starter", "codepipeline:StartPipelineExecution")
    before = len(decisions(stack, "production", "pipeline-starter"))
    commit = push(clone, "main", "While CodePipeline of production is down")
    job.wait_for_decision(stack, "production", "pipeline-starter", before, "waiting")
    allow()
    eventually(
        "the order starts by itself",
        lambda: [one for one in follow_up_when_due(stack, "production") if one["outcome"] == "started"],
        job.PIPELINE_SECONDS,
    )
    job.wait_for_deployment(stack, "production", commit)


def test_every_pipeline_reports_what_it_runs(stack):
    def healthy_reports():
        rows = [row for row in ledger(stack, "repository") if row["pk"].startswith("target#")]
        reports = [row["report"] for row in rows if row.get("report")]
        return reports if reports and all(report["state"] == "healthy" for report in reports) else None

    # The deployment ends before its report arrives.
    reports = eventually("every target reports that it is healthy", healthy_reports, job.PIPELINE_SECONDS)
    assert {report["good"] for report in reports} == {report["revision"] for report in reports}
