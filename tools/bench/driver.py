"""`make bench`: builds and measures the release binaries, prints the figures and writes them to docs/performance.md."""

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from tools import build
from tools.bench import certificates
from tools.bench.report import RUNS, WARM, report
from tools.failure import Failure
from tools.layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, REGION, ROOT, tool
from tools.machine import pip_environment, pip_install
from tools.processes import run

PEER_SOURCE = ROOT / "bench" / "peer"
WORK = ROOT / "target" / "bench"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench` -->\n", "<!-- end of figures -->\n"


THROTTLED_RUNS = 15
TARGETS = [1, 10, 100, 1000]
IMAGE_TARGETS = [1, 1000]
WIDGET_TARGETS = [1000]
# The waves of the train that the widget shows.
WAVES = 10
PIPELINES = [1, 10, 25, 50]
REPOSITORIES = [100, 1000]
# The time of an answer of AWS, in milliseconds, while a reconcile is measured.
LATENCY = 30
OBJECTS = [1_000, 10_000, 100_000]


def bench() -> None:
    """Measures everything and writes the figures to docs/performance.md."""
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    build.build()
    logs = WORK / "logs"
    build_benchmark(logs)
    binaries = {name: BUILD / logical / "bootstrap" for logical, name in FUNCTIONS.items()}
    binaries["hello"] = ROOT / "target" / "lambda" / "hello" / "bootstrap"
    peer = peer_folder(logs)
    certificates.make(WORK)

    plan: dict[str, Any] = {
        "commands": {name: [str(path)] for name, path in binaries.items()},
        "environment": function_environment(peer),
        "certificate": str(WORK / "server.pem"),
        "key": str(WORK / "server.key"),
        "host": "localhost",
        "events": str(ROOT / "events"),
        "configurations": configurations(),
        "runs": RUNS,
        "throttled_runs": THROTTLED_RUNS,
        "warm": WARM,
        "latency": LATENCY,
        "objects": OBJECTS,
    }
    plan["commands"]["peer"] = [str(tool("python")), "-m", "awslambdaric", "function.handler"]
    (WORK / "plan.json").write_text(json.dumps(plan))
    command = [ROOT / "target" / "release" / "bench", WORK / "plan.json"]
    figures = json.loads(run("Measuring", command, WORK / "figures.json", cwd=WORK, hint="See bench/src."))

    sizes: dict[str, tuple[int | None, int]] = {
        name: (path.stat().st_size, zipped_size(name, path)) for name, path in binaries.items()
    }
    sizes["peer"] = (None, zipped_size_of_folder(peer))
    text = report(figures, sizes, time.monotonic() - began)
    print(text)
    write_to_document(text)


def build_benchmark(logs: Path) -> None:
    """Builds the hello world function and the program that measures."""
    settings = {"--x86-64": "x86_64", "--arm64": "arm64"}
    (architecture,) = (option for option, name in settings.items() if name == ARCHITECTURE)
    hello = ["cargo", "lambda", "build", "--release", architecture, "-p", "sekisho-hello"]
    program = ["cargo", "build", "--profile", "bench", "-p", "sekisho-bench"]
    for title, command, log in (
        ("Building hello world", hello, "hello.log"),
        ("Building the benchmark", program, "bench.log"),
    ):
        run(title, command, logs / log, cwd=ROOT, env=build.environment(), hint=build.HINT)


def function_environment(peer: Path) -> dict[str, str]:
    """The environment variables of the measured functions, as Lambda and the template set them."""
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
        # Both files contain the benchmark's own authority. The functions read amazon.pem, boto3 reads bundle.pem.
        "SSL_CERT_FILE": str(WORK / "amazon.pem"),
        "AWS_CA_BUNDLE": str(WORK / "bundle.pem"),
        "PYTHONPATH": f"{peer}:{PEER_SOURCE}",
        "LEDGER_TABLE": "sekisho-ledger",
        "RES_OPTIONS": "timeout:1 attempts:2",
        "REPOSITORY_ACCOUNT_ID": "111111111111",
        "NOTICE_TOPIC_ARN": f"arn:aws:sns:{REGION}:{account}:notices",
        "ACCESS_BOUNDARY_ARN": "arn:aws:iam::333333333333:policy/sekisho-access-boundary",
        "ARTIFACT_BUCKET": f"sekisho-artifacts-{account}-{REGION}",
        "ARTIFACT_KEY_ARN": f"arn:aws:kms:{REGION}:{account}:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "SWEEP_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{account}/sekisho-artifact-ranges",
        "SWEEP_CONCURRENCY": "5",
        "HUB_ACCOUNT_ID": account,
    }


def peer_folder(logs: Path) -> Path:
    """Installs the packages of the Python peer as in a Lambda package, and returns their folder."""
    folder = WORK / "peer"
    requirements = PEER_SOURCE / "requirements.txt"
    stamp = folder / ".stamp"
    wanted = requirements.read_text() + sys.version
    if not stamp.is_file() or stamp.read_text() != wanted:
        python = tool("python")
        pip = [*pip_install(python, requirements), "--upgrade", "--target", folder]
        run("Installing the Python peer", pip, logs / "peer.log", cwd=ROOT, env=pip_environment(python))
        stamp.write_text(wanted)
    return folder


def configurations() -> dict[str, str]:
    """The paths, by name, of the committed configuration and of larger ones with many targets or pipelines.

    The targets of `images-…` are those of an image. Those of `widget-…` are in a train, which the widget of event-relay
    shows.
    """
    hub = WORK / "hub.toml"
    hub.write_text(CONFIG.read_text() + '[access.accounts]\nother = "444444444444"\n')
    found = {"everyday": str(CONFIG), "hub": str(hub)}
    target = (
        '[[route.target]]\naccount = "{account}"\nregion = "'
        + REGION
        + '"\npipeline = "{pipeline}"\naction = "Source"\n'
    )
    code = '[[route]]\nrepository = "shop"\nbranches = ["main"]\n'
    image = '[[route]]\nimage = "shop"\ntags = ["**"]\n'
    for what, counts, route in (
        ("targets", TARGETS, code),
        ("images", IMAGE_TARGETS, image),
        ("pipelines", PIPELINES, code),
    ):
        for count in counts:
            many = what != "pipelines"
            targets = (
                target.format(account=100_000_000_000 + index, pipeline="shop")
                if many
                else target.format(account=222_222_222_222, pipeline=f"shop-{index}")
                for index in range(count)
            )
            file = WORK / f"{what}-{count}.toml"
            file.write_text(route + "".join(targets))
            found[f"{what}-{count}"] = str(file)
    for count in WIDGET_TARGETS:
        accounts = [str(100_000_000_000 + index) for index in range(count)]
        waves = (
            f'[[route.wave]]\nname = "wave-{wave}"\nbake = "30m"\nalarms = ["shop-*"]\n[[route.wave.target]]\n'
            f'accounts = {json.dumps(accounts[wave::WAVES])}\nregion = "{REGION}"\npipeline = "shop"\n'
            'action = "Source"\n'
            for wave in range(WAVES)
        )
        file = WORK / f"widget-{count}.toml"
        file.write_text(code + 'name = "shop"\n' + "".join(waves))
        found[f"widget-{count}"] = str(file)
    every = '[[route]]\nrepository = "shop-*"\nbranches = ["main", "release/*"]\n'
    for count in REPOSITORIES:
        file = WORK / f"repositories-{count}.toml"
        file.write_text(every + target.format(account=222_222_222_222, pipeline="shop"))
        found[f"repositories-{count}"] = str(file)
    return found


def zipped_size(name: str, path: Path) -> int:
    """The size in bytes of the binary's zip."""
    packed = WORK / f"{name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "bootstrap")
    return packed.stat().st_size


def zipped_size_of_folder(folder: Path) -> int:
    """The size in bytes of the folder's zip."""
    packed = WORK / "peer.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return packed.stat().st_size


def write_to_document(text: str) -> None:
    """Replaces the figures in the document."""
    document = DOCUMENT.read_text()
    before, found, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    if not found:
        raise Failure(f"{DOCUMENT} has no line `{BEGIN.strip()}`, after which the figures belong: add it")
    DOCUMENT.write_text(before + BEGIN + "\n" + text + "\n" + END + after)
