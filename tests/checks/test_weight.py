"""The built functions contain one TLS stack, need no newer C library than Lambda has, and stay small."""

import re
import subprocess
import zipfile

import pytest

from tools.layout import BINARIES, BUILD, ROOT

MEGABYTE = 1_000_000
# The mark of a figure that exceeds its limit in the tables that `make bench` writes.
OVER = "**over**"
# The limits of the zips, in MB.
LARGEST = {"EventRelay": 3.0, "PipelineStarter": 3.0, "TempAccess": 2.6, "ArtifactChecker": 3.0, "ArtifactSweeper": 3.0}
# aws-lc takes 21 ms of CPU in the first TLS call. The other crates are second TLS stacks or use the legacy HTTP client.
BARRED = {
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl",
    "openssl-sys",
    "native-tls",
    "s2n-tls",
    "s2n-tls-sys",
    "boring",
    "boring-sys",
    "reqwest",
}
# The build has one version of each of these packages. A second version would mean that it has the SDK's legacy stack.
SINGLE = {"rustls", "tokio-rustls", "hyper-rustls", "hyper", "ring"}
# The version of glibc in Amazon Linux 2023, on which the functions run.
GLIBC = (2, 34)


@pytest.fixture(scope="module", params=LARGEST)
def bootstrap(request):
    file = BUILD / request.param / "bootstrap"
    assert file.is_file(), f"{file} is missing: make build"
    return request.param, file


@pytest.mark.parametrize("package", BINARIES)
@pytest.mark.parametrize("target", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_one_tls_stack_is_built_in(package, target):
    command = [
        "cargo",
        "tree",
        "--locked",
        "-p",
        package,
        "-e",
        "normal,build",
        "--target",
        target,
        "--prefix",
        "none",
        "-f",
        "{p}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {tuple(line.split(" (")[0].rsplit(" v", 1)) for line in done.stdout.splitlines() if " v" in line}
    names = [name for name, _ in found]
    assert not BARRED.intersection(names), (
        f"to see which crate needs it: cargo tree -p {package} --target {target} -i <name>"
    )
    assert {name: names.count(name) for name in SINGLE} == dict.fromkeys(SINGLE, 1)


def test_the_c_library_is_no_newer_than_lambdas(bootstrap):
    _, file = bootstrap
    asked = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", file.read_bytes())}
    assert asked, "a binary that names no version of glibc is not one of ours"
    assert max(asked) <= GLIBC


def test_the_zip_stays_within_its_limit(bootstrap, tmp_path):
    name, file = bootstrap
    packed = tmp_path / "function.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "bootstrap")
    size = packed.stat().st_size / MEGABYTE
    assert size <= LARGEST[name], f"{size:.2f} MB: docs/performance.md shows the share of each part"


def test_only_temp_access_is_position_independent(bootstrap):
    name, file = bootstrap
    fixed, random = 2, 3  # ET_EXEC, ET_DYN
    assert file.read_bytes()[16] == (random if name == "TempAccess" else fixed), "see functions/link.rs"


def test_no_measured_figure_exceeds_its_limit():
    assert OVER in (ROOT / "tools" / "bench" / "report.py").read_text(), "make bench uses another mark"
    assert OVER not in (ROOT / "docs" / "performance.md").read_text()
