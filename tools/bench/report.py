"""The report of the benchmark, as Markdown tables."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

Run = dict[str, Any]
# The size of a function's binary and of its zip, in bytes. The peer has no binary, so that size is None.
Sizes = dict[str, tuple[int | None, int]]

RUNS = 61
WARM = 500

# The CPU time in which a widget with 1,000 targets must answer, in microseconds. At 128 MB, a function gets a
# fourteenth of a core, so people wait fourteen times as long.
WIDGET_CPU = 300_000
# The CPU time that a sweep may take for each object, in microseconds, and the number of objects from which on the limit
# holds: with fewer objects, the start counts as much.
OBJECT_CPU, MANY_OBJECTS = 120, 10_000
# The upper limits of a cold start: `peak` in MB, the others as multiples of the hello world function's figures.
LIMITS = {"wall": 5.0, "cpu": 5.0, "init": 1.6, "peak": 9.0}
# The upper limits of the zips, in MB.
ZIPS = {"temp-access": 2.6, "event-relay": 3.0, "pipeline-starter": 3.0, "artifact-checker": 3.0}
# The Python function in bench/peer, with which temp-access is compared, must need at least this many times as much.
PEER = {"wall": 30, "cpu": 35}

# List prices of us-east-1, in US dollars per million. Calls to IAM, CodeCommit and CodePipeline cost nothing.
PRICES = {
    "lambda request": 0.20,
    "write unit": 0.625,
    "read unit": 0.125,
    "eventbridge:PutEvents entry": 1.00,
    "sns:Publish": 0.50,
    "s3:HeadObject": 0.40,
    "s3:GetObject": 0.40,
    "s3:GetBucketEncryption": 0.40,
    "s3:ListObjectsV2": 5.00,
    "kms:DescribeKey": 3.00,
}
GIGABYTE_SECOND = 0.0000133334


def report(figures: dict[str, Any], sizes: Sizes, seconds: float) -> str:
    """The whole report; `seconds` is the duration of the benchmark."""
    heading = (
        f"Last run: {date.today().isoformat()}, {machine()}; {RUNS} cold runs of each, in turns, medians; "
        f"{seconds:.0f} s in all.\n"
    )
    parts = [
        heading,
        cold(figures["cold"], sizes),
        peer(figures["cold"]),
        handed_on(figures),
        throttled(figures),
        warm(figures["warm"]),
        calls(figures),
        growth(figures["growth"], middle(figures["cold"]["hello"], "cpu")),
    ]
    return "\n".join(parts)


def machine() -> str:
    """A description of the machine that measured, with its load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.machine())
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release().split('-')[0]}, load {os.getloadavg()[0]:.1f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def middle(runs: Sequence[Run], what: str) -> float:
    """The median of one figure over all runs."""
    return median(each[what] for each in runs)


def ratio(runs: Sequence[Run], floor: Sequence[Run], what: str) -> float:
    """Divides each run's figure by the figure of the same turn in `floor`, and returns the median of these ratios."""
    return median(ours[what] / theirs[what] for ours, theirs in zip(runs, floor, strict=True))


def judged(value: float, limit: float, form: str) -> str:
    """The value as text, with a mark if the value is over the limit."""
    return form.format(value) + (" **over**" if value > limit else "")


def cold(runs: dict[str, list[Run]], sizes: Sizes) -> str:
    """The table of cold starts."""
    floor = runs["hello"]
    rows = []
    for name, each in runs.items():
        binary, packed = sizes[name]
        against = {what: ratio(each, floor, what) for what in ("wall", "cpu", "init")}
        ours = name in ZIPS
        row = [name]
        for what in ("wall", "cpu", "init"):
            limit = LIMITS[what] if ours else float("inf")
            row.append(f"{middle(each, what) / 1000:.2f} ms, " + judged(against[what], limit, "{:.1f} ×"))
        row.append(judged(middle(each, "peak") / 1e6, LIMITS["peak"] if ours else float("inf"), "{:.1f} MB"))
        row.append("" if binary is None else f"{binary / 1e6:.1f} MB")
        row.append(judged(packed / 1e6, ZIPS.get(name, float("inf")), "{:.2f} MB"))
        rows.append(row)
    limits = [f"{LIMITS[what]} ×" for what in ("wall", "cpu", "init")]
    rows.append(["at most", *limits, f"{LIMITS['peak']:.0f} MB", "", "3.0 MB; temp-access 2.6 MB"])
    heads = ["cold", "wall, spawn to answer", "CPU", "init, spawn to first question", "peak RSS", "binary", "zip"]
    return "### Cold\n\n" + table(heads, rows)


def peer(runs: dict[str, list[Run]]) -> str:
    """A sentence that compares temp-access with the Python peer; empty if the peer was not measured."""
    if "peer" not in runs:
        return ""
    parts = []
    for what, times in PEER.items():
        found = ratio(runs["peer"], runs["temp-access"], what)
        parts.append(f"{what} 1/{found:.0f} (at most 1/{times}{'' if found >= times else ': **over**'})")
    return "temp-access with all its calls against the Python peer with one: " + ", ".join(parts) + ".\n"


def handed_on(figures: dict[str, Any]) -> str:
    """A sentence about a grant in another account, for which two functions start one after the other.

    It compares them with the everyday grant, for which one function starts.
    """
    both = figures["handed_on"]
    if not both:
        return ""
    ours, theirs, usual = (sum(figures["calls"][one]["calls"].values()) for one in ("hub", "other", "temp-access"))
    parts = [f"{ours} + {theirs} calls of AWS, the everyday grant's are {usual}"]
    for what, name in (("wall", "wall"), ("cpu", "CPU")):
        hub, other = (middle(both[one], what) / 1000 for one in ("hub", "other"))
        grant = middle(figures["cold"]["temp-access"], what) / 1000
        times = (hub + other) / grant
        parts.append(f"{name} {hub:.2f} ms + {other:.2f} ms, {times:.1f} × the everyday grant's {grant:.2f} ms")
    return f"A grant in another account, the hub's cold start + the other account's: {'; '.join(parts)}.\n"


def throttled(figures: dict[str, Any]) -> str:
    """The table of cold starts under a limited CPU."""
    heading = "### Throttled: 7 % of a core once the event is there\n\n"
    if figures["unthrottled"]:
        return heading + f"This machine does not allow it ({figures['unthrottled']}).\n"
    runs = figures["throttled"]
    rows = [
        [
            name,
            *(f"{middle(each, what) / 1000:.0f} ms" for what in ("init", "invocation", "wall")),
            f"{ratio(each, runs['hello'], 'wall'):.1f} ×",
        ]
        for name, each in runs.items()
    ]
    return heading + table(["", "init", "event to answer", "spawn to answer", "against hello world"], rows)


def warm(runs: dict[str, Run]) -> str:
    """The table of warm invocations."""
    rows = [
        [
            name,
            f"{each['median'] / 1000:.2f} ms",
            f"{each['p99'] / 1000:.2f} ms",
            f"{each['per_second']:.0f}",
            f"{each['cpu'] / 1000:.2f} ms",
            f"{each['peak'] / 1e6:.1f} MB",
        ]
        for name, each in runs.items()
    ]
    heads = ["warm", "median", "p99", "requests/s, one after the other", "CPU each", "peak RSS"]
    return f"### Warm: {WARM} everyday events\n\n" + table(heads, rows)


def calls(figures: dict[str, Any]) -> str:
    """The table of AWS calls and their cost."""
    rows = []
    for name in ZIPS:
        warm_event = figures["warm"][name]
        later = {"calls": warm_event["calls"], "units": warm_event["units"]}
        for state, found in (("first", figures["calls"][name]), ("later", later)):
            made = ", ".join(f"{call}{f' × {count}' if count > 1 else ''}" for call, count in found["calls"].items())
            count_of_calls = sum(found["calls"].values())
            rows.append([name, state, count_of_calls, found.get("connections", ""), made, f"${cost(found):.2f}"])
    text = table(["everyday event", "", "calls", "connections", "which", "a million"], rows)
    call, connection = cost_of_one_more(figures)
    floor = middle(figures["cold"]["hello"], "cpu")
    tenth_of_a_second = 0.1 * 0.125 * GIGABYTE_SECOND * 1e6
    return (
        f"### AWS calls and cost\n\n{text}\n"
        f"In a cold event, each call takes {call / 1000:.2f} ms of CPU time with the work around it "
        f"({call / floor:.2f} × all of hello world), and each connection {connection / 1000:.2f} ms "
        f"({connection / floor:.2f} ×). These two figures are a fit over the four functions, which differ in both.\n\n"
        "Costs are the counted requests at the list prices of us-east-1, including Lambda's own; a tenth of a second "
        f"at 128 MB (arm64) adds ${tenth_of_a_second:.2f} to each million.\n"
    )


def cost_of_one_more(figures: dict[str, Any]) -> tuple[float, float]:
    """The CPU time, in microseconds, that another call and another connection add to a cold event (least squares)."""
    cc = cn = nn = ct = nt = 0.0
    for name in ZIPS:
        made = figures["calls"][name]
        calls, connections = sum(made["calls"].values()), made["connections"]
        took = median(run["cpu"] - run["init_cpu"] for run in figures["cold"][name])
        cc, cn, nn = cc + calls * calls, cn + calls * connections, nn + connections * connections
        ct, nt = ct + calls * took, nt + connections * took
    determinant = cc * nn - cn * cn
    return (ct * nn - nt * cn) / determinant, (nt * cc - ct * cn) / determinant


def cost(found: dict[str, Any]) -> float:
    """The cost of a million events, in US dollars."""
    total: float = PRICES["lambda request"]
    for call, count in found["calls"].items():
        total += count * PRICES.get(call, 0)
    units = found["units"]
    total += units["write"] * PRICES["write unit"]
    total += units["read"] * PRICES["read unit"]
    total += units["entries"] * PRICES["eventbridge:PutEvents entry"]
    return total


def growth(runs: Sequence[Run], floor: float) -> str:
    """The table of runs with many targets, pipelines and objects; `floor` is the CPU time of hello world.

    An image may cost no more calls than a commit, and a widget and an object no more CPU time than their limits.
    """
    rows = []
    of_a_commit = {each["count"]: sum(each["calls"].values()) for each in runs if each["what"] == "targets"}
    for each in runs:
        made = ", ".join(f"{call} × {count}" for call, count in each["calls"].items())
        if each["what"] == "targets of an image" and sum(each["calls"].values()) > of_a_commit[each["count"]]:
            made += " **over**"
        if each["what"] == "targets in the widget" and each["cpu"] > WIDGET_CPU:
            made += " **over**"
        wall, cpu = (each[time] / each["count"] for time in ("wall", "cpu"))
        limit = OBJECT_CPU if each["what"] == "objects" and each["count"] >= MANY_OBJECTS else float("inf")
        rows.append(
            [
                f"{each['program']}, {each['count']:,} {each['what']}",
                f"{each['wall'] / 1000:,.1f} ms",
                f"{wall / 1000:.3f} ms",
                f"{each['cpu'] / 1000:,.1f} ms",
                judged(cpu / 1000, limit / 1000, "{:.3f} ms") + f", {cpu / floor:.2f} ×",
                f"{each['peak'] / 1e6:.1f} MB",
                made,
            ]
        )
    return "### Growth\n\n" + table(["", "wall", "of each", "CPU", "of each", "peak RSS", "calls"], rows)
