"""`make bench`: builds the release binaries, has them measured, prints the table and writes it to docs/performance.md."""

import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from datetime import date
from math import ceil
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import certificates  # noqa: E402
from local_stack import build  # noqa: E402
from local_stack.layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, REGION, ROOT, tool  # noqa: E402
from local_stack.processes import Failure, Kept, clean_environment, run  # noqa: E402

HERE = Path(__file__).parent
WORK = ROOT / "target" / "bench"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench` -->\n", "<!-- end of figures -->\n"

RUNS = 61
THROTTLED_RUNS = 15
WARM = 500
TARGETS = [1, 10, 100, 1000]
PIPELINES = [1, 10, 25, 50]
OBJECTS = [1_000, 10_000, 100_000]

# The most that each may be, against hello world but for what has a unit.
LIMITS = {"wall": 5.0, "cpu": 5.0, "init": 1.6, "peak": 9.0}
ZIPS = {"temp-access": 2.6, "event-relay": 3.0, "pipeline-starter": 3.0, "artifact-checker": 3.0}
PEER = {"wall": 30, "cpu": 35}

# US dollars for a million, list prices of us-east-1. IAM, CodeCommit and CodePipeline have none for these calls.
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


def main():
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    build.build()
    logs = WORK / "logs"
    here = {"cwd": ROOT, "env": build.environment(), "hint": build.MEND}
    architecture = {"x86_64": "--x86-64", "arm64": "--arm64"}[ARCHITECTURE]
    run("Building hello world", ["cargo", "lambda", "build", "--release", architecture, "-p", "sekisho-hello"], logs / "hello.log", **here)
    run("Building the benchmark", ["cargo", "build", "--profile", "bench", "-p", "sekisho-bench"], logs / "bench.log", **here)
    binaries = {name: BUILD / logical / "bootstrap" for logical, name in FUNCTIONS.items()}
    binaries["hello"] = ROOT / "target" / "lambda" / "hello" / "bootstrap"
    peer = peer_folder(logs)
    certificates.make(WORK)

    plan = {
        "commands": {name: [str(path)] for name, path in binaries.items()},
        "environment": environment(peer),
        "certificate": str(WORK / "server.pem"),
        "key": str(WORK / "server.key"),
        "host": "localhost",
        "events": str(ROOT / "events"),
        "configurations": configurations(),
        "runs": RUNS,
        "throttled_runs": THROTTLED_RUNS,
        "warm": WARM,
        "objects": OBJECTS,
    }
    plan["commands"]["peer"] = [str(tool("python")), "-m", "awslambdaric", "function.handler"]
    (WORK / "plan.json").write_text(json.dumps(plan))
    command = [ROOT / "target" / "release" / "bench", WORK / "plan.json"]
    figures = json.loads(run("Measuring", command, WORK / "figures.json", cwd=WORK, hint="See tests/bench/src."))

    sizes = {name: (path.stat().st_size, zipped(name, path)) for name, path in binaries.items()}
    sizes["peer"] = (None, zipped_folder(peer))
    text = report(figures, sizes, time.monotonic() - began)
    print(text)
    keep(text)


def environment(peer):
    account = "222222222222"
    return {
        "PATH": "/usr/bin:/bin",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_SESSION_TOKEN": "example",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        # As many authorities as the functions trust on Lambda, and ours; the peer reads what boto3 reads, and ours.
        "SSL_CERT_FILE": str(WORK / "amazon.pem"),
        "AWS_CA_BUNDLE": str(WORK / "bundle.pem"),
        "PYTHONPATH": f"{peer}:{HERE / 'peer'}",
        "LEDGER_TABLE": "sekisho-ledger",
        "RES_OPTIONS": "timeout:1 attempts:2",
        "DEAD_LETTER_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/111111111111/dead-letters",
        "REPOSITORY_ACCOUNT_ID": "111111111111",
        "NOTICE_TOPIC_ARN": f"arn:aws:sns:{REGION}:{account}:notices",
        "ACCESS_BOUNDARY_ARN": "arn:aws:iam::333333333333:policy/sekisho-access-boundary",
        "ARTIFACT_BUCKET": f"sekisho-artifacts-{account}-{REGION}",
        "ARTIFACT_KEY_ARN": f"arn:aws:kms:{REGION}:{account}:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    }


def peer_folder(logs):
    """The peer's packages, as they would lie in a Lambda package."""
    folder = WORK / "peer"
    requirements = HERE / "peer" / "requirements.txt"
    stamp = folder / ".stamp"
    wanted = requirements.read_text() + sys.version
    if not stamp.is_file() or stamp.read_text() != wanted:
        pip = [tool("python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--upgrade", "-t", folder, "-r", requirements]
        run("Installing the Python peer", pip, logs / "peer.log", cwd=ROOT, env=clean_environment())
        stamp.write_text(wanted)
    return folder


def configurations():
    """The committed file, and larger ones made from it."""
    found = {"everyday": str(CONFIG)}
    target = '[[route.target]]\naccount = "{account}"\nregion = "' + REGION + '"\npipeline = "{pipeline}"\naction = "Source"\n'
    route = '[[route]]\nrepository = "shop"\nbranches = ["main"]\n'
    for what, counts in (("targets", TARGETS), ("pipelines", PIPELINES)):
        for count in counts:
            many = what == "targets"
            targets = (
                target.format(account=100_000_000_000 + index if many else 222_222_222_222, pipeline="shop" if many else f"shop-{index}")
                for index in range(count)
            )
            file = WORK / f"{what}-{count}.toml"
            file.write_text(route + "".join(targets))
            found[f"{what}-{count}"] = str(file)
    return found


def zipped(name, path):
    packed = WORK / f"{name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "bootstrap")
    return packed.stat().st_size


def zipped_folder(folder):
    packed = WORK / "peer.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return packed.stat().st_size


# ---- the report --------------------------------------------------------------------------------------------------------


def report(figures, sizes, took):
    parts = [
        f"Last run: {date.today().isoformat()}, {machine()}; {RUNS} cold runs of each, in turns, medians; {took:.0f} s in all.\n",
        cold(figures["cold"], sizes),
        peer(figures["cold"]),
        throttled(figures),
        warm(figures["warm"]),
        calls(figures),
        growth(figures["growth"]),
    ]
    return "\n".join(parts)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release().split('-')[0]}, load {os.getloadavg()[0]:.1f}"


def table(heads, rows):
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def middle(runs, what):
    return median(each[what] for each in runs)


def ratio(runs, floor, what):
    """The median of each run against hello world's of the same turn."""
    return median(ours[what] / theirs[what] for ours, theirs in zip(runs, floor))


def judged(value, limit, form):
    return form.format(value) + (" **over**" if value > limit else "")


def cold(runs, sizes):
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
    rows.append(["at most", *(f"{LIMITS[what]} ×" for what in ("wall", "cpu", "init")), f"{LIMITS['peak']:.0f} MB", "", "3.0 MB; temp-access 2.6 MB"])
    heads = ["cold", "wall, spawn to answer", "CPU", "init, spawn to first question", "peak RSS", "binary", "zip"]
    return "### Cold\n\n" + table(heads, rows)


def peer(runs):
    if "peer" not in runs:
        return ""
    parts = []
    for what, times in PEER.items():
        found = ratio(runs["peer"], runs["temp-access"], what)
        parts.append(f"{what} 1/{found:.0f} (at most 1/{times}{'' if found >= times else ': **over**'})")
    return "temp-access with all its calls against the Python peer with one: " + ", ".join(parts) + ".\n"


def throttled(figures):
    heading = "### Throttled: 7 % of a core once the event is there\n\n"
    if figures["unthrottled"]:
        return heading + f"This machine does not allow it ({figures['unthrottled']}).\n"
    runs = figures["throttled"]
    rows = [
        [name, *(f"{middle(each, what) / 1000:.0f} ms" for what in ("init", "invocation", "wall")), f"{ratio(each, runs['hello'], 'wall'):.1f} ×"]
        for name, each in runs.items()
    ]
    return heading + table(["", "init", "event to answer", "spawn to answer", "against hello world"], rows)


def warm(runs):
    rows = [
        [name, f"{each['median'] / 1000:.2f} ms", f"{each['p99'] / 1000:.2f} ms", f"{each['per_second']:.0f}", f"{each['cpu'] / 1000:.2f} ms", f"{each['peak'] / 1e6:.1f} MB"]
        for name, each in runs.items()
    ]
    heads = ["warm", "median", "p99", "requests/s, one after the other", "CPU each", "peak RSS"]
    return f"### Warm: {WARM} everyday events\n\n" + table(heads, rows)


def calls(figures):
    rows = []
    for name in ZIPS:
        for state, found in (("first", figures["calls"][name]), ("later", {"calls": figures["warm"][name]["calls"], "units": figures["warm"][name]["units"]})):
            made = ", ".join(f"{call}{f' × {count}' if count > 1 else ''}" for call, count in found["calls"].items())
            rows.append([name, state, sum(found["calls"].values()), found.get("connections", ""), made, f"${cost(found):.2f}"])
    text = table(["everyday event", "", "calls", "connections", "which", "a million"], rows)
    call, connection = further(figures)
    floor = middle(figures["cold"]["hello"], "cpu")
    return (
        "### AWS calls and cost\n\n"
        + text
        + f"\nOf a cold event's CPU time each call takes, with all that is done around it, {call / 1000:.2f} ms ({call / floor:.2f} × all of hello world) and each connection"
        + f" {connection / 1000:.2f} ms ({connection / floor:.2f} ×): a fit over the four functions, which differ in both.\n"
        + "\nCosts are the requests counted at us-east-1's list prices, Lambda's own included; a tenth of a second at 128 MB (arm64)"
        + f" adds ${0.1 * 0.125 * GIGABYTE_SECOND * 1e6:.2f} to each million.\n"
    )


def further(figures):
    """What one more call, and one more connection, adds to the CPU time of a cold event, in microseconds."""
    cc = cn = nn = ct = nt = 0
    for name in ZIPS:
        made = figures["calls"][name]
        calls, connections = sum(made["calls"].values()), made["connections"]
        took = median(run["cpu"] - run["init_cpu"] for run in figures["cold"][name])
        cc, cn, nn = cc + calls * calls, cn + calls * connections, nn + connections * connections
        ct, nt = ct + calls * took, nt + connections * took
    determinant = cc * nn - cn * cn
    return (ct * nn - nt * cn) / determinant, (nt * cc - ct * cn) / determinant


def cost(found):
    total = PRICES["lambda request"]
    for call, count in found["calls"].items():
        total += count * PRICES.get(call, 0)
    units = found["units"]
    return total + units["write"] * PRICES["write unit"] + units["read"] * PRICES["read unit"] + units["entries"] * PRICES["eventbridge:PutEvents entry"]


def growth(runs):
    rows = []
    for each in runs:
        made = ", ".join(f"{call} × {count}" for call, count in each["calls"].items())
        per = each["wall"] / each["count"]
        rows.append([f"{each['program']}, {each['count']:,} {each['what']}", f"{each['wall'] / 1000:,.1f} ms", f"{per / 1000:.3f} ms", f"{each['cpu'] / 1000:,.1f} ms", f"{each['peak'] / 1e6:.1f} MB", made])
    return "### Growth\n\n" + table(["", "wall", "of each", "CPU", "peak RSS", "calls"], rows)


def keep(text):
    """Puts the figures in their place in the document."""
    document = DOCUMENT.read_text()
    before, found, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    if not found:
        raise Failure(f"{DOCUMENT} has no line `{BEGIN.strip()}`: the figures have no place there")
    DOCUMENT.write_text(before + BEGIN + "\n" + text + "\n" + END + after)


try:
    main()
except Failure as failure:
    sys.exit(f"\n{failure}")
except KeyboardInterrupt:
    sys.exit(130)
