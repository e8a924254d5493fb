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
    "TempAccessRefusals": ("temp-access", {"refused", "failed", "open-ended"}),
}
# These properties are the same for all alarms, which ring at the first occurrence in five minutes and publish a notice.
FIRST_OCCURRENCE = {
    "Period": 300,
    "EvaluationPeriods": 1,
    "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
    "AlarmActions": [{"Ref": "Notices"}],
}
COMPARISON = re.compile(r'\$\.(message|decision\.outcome) (!?=) "([a-z-]+)"')


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


def counts(pattern, message, outcome):
    """Returns whether a filter pattern counts a log line; fails if the pattern reads more than message and outcome."""
    line = {"message": message, "decision.outcome": outcome}

    def holds(comparison):
        found = COMPARISON.fullmatch(comparison)
        assert found, f"a filter compares {comparison!r}, which is neither the message nor the outcome"
        return (line[found[1]] == found[3]) is (found[2] == "=")

    assert re.fullmatch(r"\{ .* \}", pattern), pattern
    groups = [part.removeprefix("(").removesuffix(")").split(" || ") for part in pattern[2:-2].split(" && ")]
    held = [[holds(one) for one in group] for group in groups]
    return all(any(group) for group in held)


@pytest.mark.parametrize("name", COUNTED)
def test_a_filter_counts_the_outcomes_of_its_alarm(name):
    binary, expected = COUNTED[name]
    pattern = RESOURCES[name]["Properties"]["FilterPattern"]
    assert {one for one in outcomes(binary) if counts(pattern, "decision", one)} == expected
    assert not [one for one in expected if counts(pattern, "another message", one)]


def test_every_filter_is_checked_and_reads_the_log_of_its_function():
    logs = {binary: {"Ref": f"{logical}Logs"} for logical, (_, binary) in NAMES.items()}
    filters = of_type("AWS::Logs::MetricFilter")
    assert {name: one["Properties"]["LogGroupName"] for name, one in filters.items()} == {
        name: logs[binary] for name, (binary, _) in COUNTED.items()
    }


def test_an_outcome_rings_at_most_one_alarm():
    rung = [(binary, outcome) for binary, counted in COUNTED.values() for outcome in counted]
    assert len(rung) == len(set(rung))


def test_every_function_queue_filter_and_rule_has_its_alarms():
    expected = []
    for logical, one in of_type("AWS::Serverless::Function").items():
        dimensions = [{"Name": "FunctionName", "Value": {"Ref": logical}}]
        expected += [(one["Condition"], "AWS/Lambda", metric, "Sum", dimensions) for metric in ("Errors", "Throttles")]
    for logical, one in of_type("AWS::SQS::Queue").items():
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
    found = []
    for one in of_type("AWS::CloudWatch::Alarm").values():
        alarm = one["Properties"]
        metric = [alarm[key] for key in ("Namespace", "MetricName", "Statistic")]
        found.append((one["Condition"], *metric, alarm.get("Dimensions", [])))
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, expected))


def test_every_alarm_rings_at_the_first_occurrence():
    alarms = {name: one["Properties"] for name, one in of_type("AWS::CloudWatch::Alarm").items()}
    common = {name: {key: alarm.get(key) for key in FIRST_OCCURRENCE} for name, alarm in alarms.items()}
    assert common == dict.fromkeys(alarms, FIRST_OCCURRENCE)
    names = {alarm["AlarmName"] for alarm in alarms.values()}
    # The topic's policy accepts only alarms whose name has this prefix.
    assert len(names) == len(alarms) and not [name for name in names if not name.startswith("sekisho-")]
