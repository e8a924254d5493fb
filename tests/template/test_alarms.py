"""Alarms and metric filters: each alarm rings for its outcomes, and no filter compares the words of a reason."""

import json
import re

import pytest

from tests.template import deployed
from tests.template.test_code import code
from tests.template.test_template import NAMES

RESOURCES = deployed.source()["Resources"]
# For each metric filter: the function that logs the outcomes, and the outcomes that the filter counts.
COUNTED = {
    "EventRelayRefusals": ("event-relay", {"refused", "failed"}),
    "PipelineStarterRefusals": ("pipeline-starter", {"refused", "failed"}),
    "PipelineFailures": ("pipeline-starter", {"execution-failed"}),
    "ArtifactCheckerFindings": (
        "artifact-checker",
        {
            "reported",
            "foreign-key",
            "key-unusable",
            "needs-restore",
            "unverifiable",
            "non-converging",
            "unknown",
        },
    ),
    "TempAccessRefusals": ("temp-access", {"refused", "failed", "foreign", "open-ended"}),
    "BreakGlass": ("temp-access", {"granted", "extended", "widened", "scheduled", "pending"}),
}
# The fields, besides the outcome, without which a filter counts nothing.
WITH = {"BreakGlass": {"decision.break_glass": "true"}}
# These properties are the same for all alarms, which ring at the first occurrence in five minutes and publish a notice.
FIRST_OCCURRENCE = {
    "Period": 300,
    "EvaluationPeriods": 1,
    "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
    "AlarmActions": [{"Ref": "Notices"}],
}
# This alarm needs three reconciles in a row that did not reach every repository. The metric is written by event-relay.
NOT_REACHED = (
    "Repositories",
    "Sekisho",
    "RepositoriesNotReached",
    "Minimum",
    [{"Name": "Function", "Value": {"Ref": "EventRelay"}}],
)
COMPARISON = re.compile(r'\$\.(?P<field>[a-z._]+) (NOT EXISTS|(?P<operator>!?=) "(?P<value>[a-z-]+)")')
# The fields that filters may read. `decision.order` is the number of the order that the decision concerns, and
# `decision.break_glass` marks access that somebody took in an emergency.
READ = {"message", "decision.outcome", "decision.order", "decision.break_glass"}


def of_type(kind):
    return {name: one for name, one in RESOURCES.items() if one["Type"] == kind}


def outcomes(binary):
    """Returns the outcomes of a function in the spelling of its log, read from the function's source."""
    spelling = r'rename_all = "(lowercase|kebab-case)"\)\]\n(?:#\[.*\]\n)*'
    found = re.search(spelling + r"pub.* enum Outcome \{\n([^}]*)\n\}", code(binary))
    assert found, f"{binary} has no `enum Outcome` with a known spelling"
    dash = "-" if found[1] == "kebab-case" else ""
    variants = re.findall(r"^    ([A-Z]\w*),", found[2], re.MULTILINE)
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", dash, one).lower() for one in variants}


def counts(pattern, line):
    """Returns whether a filter pattern counts a log line; fails if the pattern reads other fields than `READ`."""
    assert re.fullmatch(r"\{ .* \}", pattern), pattern
    text = COMPARISON.sub(lambda found: str(holds(found, line)), pattern[2:-2])
    while inner := re.search(r"\(([^()]*)\)", text):
        text = text.replace(inner[0], str(combined(inner[1])))
    return combined(text)


def combined(text):
    """Returns the value of an expression of True, False, `&&` and `||`."""
    terms = [part.split(" && ") for part in text.split(" || ")]
    assert {one for term in terms for one in term} <= {"True", "False"}, f"{text!r} is not understood"
    return any(all(one == "True" for one in term) for term in terms)


def holds(comparison, line):
    """Returns whether one comparison of a filter pattern holds for a log line."""
    field = comparison["field"]
    assert field in READ, f"a filter reads {field}, which is none of {READ}"
    if comparison["operator"] is None:
        return field not in line
    return (line.get(field) == comparison["value"]) is (comparison["operator"] == "=")


def line(outcome, message="decision", **more):
    return {"message": message, "decision.outcome": outcome} | more


@pytest.mark.parametrize("name", COUNTED)
def test_a_filter_counts_the_outcomes_of_its_alarm(name):
    binary, expected = COUNTED[name]
    pattern, more = RESOURCES[name]["Properties"]["FilterPattern"], WITH.get(name, {})
    assert {one for one in outcomes(binary) if counts(pattern, line(one, **more))} == expected
    assert not [one for one in expected if counts(pattern, line(one, "another message", **more))]
    assert not more or not [one for one in expected if counts(pattern, line(one))]


def test_an_order_that_is_refused_again_and_again_rings_only_the_alarm_of_event_relay():
    """pipeline-starter refuses an order at every offer; event-relay records only the first refusal as `refused`."""
    order = {"decision.order": "1795312345999"}
    counted = {
        name: {
            one
            for one in outcomes(binary)
            if counts(RESOURCES[name]["Properties"]["FilterPattern"], line(one, **order, **WITH.get(name, {})))
        }
        for name, (binary, _) in COUNTED.items()
    }
    assert counted == {name: expected for name, (_, expected) in COUNTED.items()} | {
        "PipelineStarterRefusals": {"failed"}
    }


def test_every_filter_is_checked_and_reads_the_log_of_its_function():
    logs = {
        binary: RESOURCES[logical]["Properties"]["LoggingConfig"]["LogGroup"] for logical, (_, binary) in NAMES.items()
    }
    filters = of_type("AWS::Logs::MetricFilter")
    assert {name: one["Properties"]["LogGroupName"] for name, one in filters.items()} == {
        name: logs[binary] for name, (binary, _) in COUNTED.items()
    }


def test_an_outcome_rings_at_most_one_alarm():
    rung = [(binary, outcome) for binary, counted in COUNTED.values() for outcome in counted]
    assert len(rung) == len(set(rung))


def test_every_function_queue_filter_and_rule_has_its_alarms():
    expected: list[tuple] = []
    for logical, one in of_type("AWS::Serverless::Function").items():
        dimensions = [{"Name": "FunctionName", "Value": {"Ref": logical}}]
        expected += [(one["Condition"], "AWS/Lambda", metric, "Sum", dimensions) for metric in ("Errors", "Throttles")]
    for logical, one in of_type("AWS::SQS::Queue").items():
        # The queue of a sweep's ranges holds messages while a sweep runs. Its dead-letter queue has the alarm.
        if "RedrivePolicy" in one["Properties"]:
            assert one["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0] in RESOURCES
            continue
        dimensions = [{"Name": "QueueName", "Value": {"Fn::GetAtt": [logical, "QueueName"]}}]
        expected.append((one["Condition"], "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", dimensions))
    for one in of_type("AWS::Logs::MetricFilter").values():
        (metric,) = one["Properties"]["MetricTransformations"]
        expected.append((one["Condition"], metric["MetricNamespace"], metric["MetricName"], "Sum", []))
    # If a rule is not on the default bus, EventBridge's metrics for the rule also have the bus's name as a dimension.
    for one in (one for one in deployed.expanded()["Resources"].values() if one["Type"] == "AWS::Events::Rule"):
        dimensions = [{"Name": "RuleName", "Value": one["Properties"]["Name"]}]
        if "EventBusName" in one["Properties"]:
            assert one["Properties"]["EventBusName"] == {"Ref": "Bus"}
            dimensions.insert(0, {"Name": "EventBusName", "Value": RESOURCES["Bus"]["Properties"]["Name"]})
        expected.append((one["Condition"], "AWS/Events", "FailedInvocations", "Sum", dimensions))
    expected.append(NOT_REACHED)
    found = []
    for one in of_type("AWS::CloudWatch::Alarm").values():
        alarm = one["Properties"]
        metric = [alarm[key] for key in ("Namespace", "MetricName", "Statistic")]
        found.append((one["Condition"], *metric, alarm.get("Dimensions", [])))
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, expected))


def test_every_alarm_but_one_rings_at_the_first_occurrence():
    alarms = {name: one["Properties"] for name, one in of_type("AWS::CloudWatch::Alarm").items()}
    common = {name: {key: alarm.get(key) for key in FIRST_OCCURRENCE} for name, alarm in alarms.items()}
    in_a_row = {"RepositoriesNotReached": FIRST_OCCURRENCE | {"EvaluationPeriods": 3}}
    assert common == dict.fromkeys(alarms, FIRST_OCCURRENCE) | in_a_row
    names = {alarm["AlarmName"] for alarm in alarms.values()}
    # The topic's policy accepts only alarms whose name has this prefix.
    assert len(names) == len(alarms) and not [name for name in names if not name.startswith("sekisho-")]
