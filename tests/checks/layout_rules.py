"""The rules for the layout of the functions' folders. Each rule yields one text for each violation that it finds."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.checks.rust_source import Crate, cycles, functions_of

# For each function, its verb: the name of the module that dispatches requests.
VERBS = {
    "event-relay": "relay",
    "pipeline-starter": "starter",
    "temp-access": "access",
    "artifact-checker": "checker",
}
SKELETON = ("main", "lib", "request", "outcome", "error", "aws")
# The verb, its use cases and the adapters may contain async code. Besides these, only two modules may: `run` is the
# context of one invocation, which reads and writes rows, and `world` is the function's port.
MAY_WAIT = ("run", "world")
# Only request.rs may use these crates, because they contain the type of the event around the request.
OF_REQUESTS = ("aws_lambda_events",)
AWS = re.compile(r"\b(aws_\w+)\s*::")
RUNTIME = re.compile(r"\b(tokio|lambda_runtime|hyper\w*|reqwest)\s*::")
WAITS = re.compile(r"\basync\b|\.\s*await\b|\bFuture\b")
# A trait's method without a body. Its signature may contain `async`, but there is no code that waits.
BODILESS = re.compile(r"\b(?:async\s+)?fn\s[^{};]*;")
MAIN_LINES, FILE_LINES, FUNCTION_LINES = 60, 450, 70


def layout(function: Path, verb: str) -> Iterator[str]:
    """Applies every rule to one function's folder."""
    crate = Crate(function / "src")
    yield from skeleton(function, verb)
    yield from purity(crate, verb)
    yield from direction(crate, verb)
    yield from acyclic(crate)
    yield from thin_main(function)


def skeleton(function: Path, verb: str) -> Iterator[str]:
    """Each function has the same modules. The verb's folder contains the use cases, and aws/ contains the adapters."""
    source = function / "src"
    for name in (*SKELETON, verb):
        if not (source / f"{name}.rs").is_file():
            yield f"{function.name} has no src/{name}.rs"
    for folder in (verb, "aws"):
        if not list((source / folder).glob("*.rs")):
            yield f"{function.name} has no file in src/{folder}/"
    for file in source.rglob("mod.rs"):
        yield f"{function.name}: {file.relative_to(function)} belongs beside its folder, as {file.parent.name}.rs"


def purity(crate: Crate, verb: str) -> Iterator[str]:
    """A pure module names no AWS crate and has no async code, because it gets facts as values and returns a plan."""
    for path, module in crate.modules.items():
        if module.file in ((), ("main",)) or path[0] in (verb, "aws"):
            continue
        permitted = OF_REQUESTS if path == ("request",) else ()
        for name in sorted(set(AWS.findall(module.code)) - set(permitted)):
            yield f"{module} names {name}: that belongs in aws/"
        if path[0] in MAY_WAIT:
            continue
        code = BODILESS.sub(" ", module.code)
        for name in sorted(set(RUNTIME.findall(code))):
            yield f"{module} names {name}: that belongs in {verb}"
        if found := WAITS.search(code):
            yield f"{module} waits ({found[0]}): that belongs in {verb}"


def direction(crate: Crate, verb: str) -> Iterator[str]:
    """Modules import only in this direction: main → verb → its use cases → adapters and pure modules."""
    for edge in crate.edges():
        source, target = edge.source.split("::"), edge.target.split("::")
        if target == ["lib"]:
            yield f"{edge.source} imports lib ({edge.reason}): lib.rs only declares modules"
        elif target == ["main"]:
            yield f"{edge.source} imports main ({edge.reason})"
        elif target == [verb]:
            yield f"{edge.source} imports {verb} ({edge.reason}): move the shared code into a module below {verb}"
        elif target[0] == verb and source[0] != verb:
            yield f"{edge.source} imports a use case of {verb}, {edge.target} ({edge.reason})"
        # A file below an adapter belongs to that adapter, so aws/s3/copy.rs and aws/s3.rs may import each other.
        elif source[0] == target[0] == "aws" and source[1:2] != target[1:2] and source[1:] and target[1:]:
            yield f"{edge.source} imports another adapter, {edge.target} ({edge.reason})"


def acyclic(crate: Crate) -> Iterator[str]:
    """The modules have no dependency cycle, neither through imports nor through methods that one file adds to a type
    of another file.
    """
    edges = crate.edges()
    for group in cycles(edges):
        inside = [f"{edge.source} → {edge.target} ({edge.reason})" for edge in edges]
        members = [
            text for text, edge in zip(inside, edges, strict=True) if edge.source in group and edge.target in group
        ]
        yield f"{', '.join(group)} need each other: {'; '.join(sorted(members))}"


def thin_main(function: Path) -> Iterator[str]:
    """main.rs connects the parts of the function, and has no other task."""
    file = function / "src" / "main.rs"
    if file.is_file() and (lines := len(file.read_text().splitlines())) > MAIN_LINES:
        yield f"{function.name}: src/main.rs has {lines} lines, more than {MAIN_LINES}: move code into the library"


def no_imports_between_functions(function: Path, others: set[str]) -> Iterator[str]:
    """No function's manifest or code names another function."""
    for file in [function / "Cargo.toml", *function.rglob("*.rs")]:
        text = file.read_text()
        for other in sorted(others - {function.name}):
            crate = other.replace("-", "_")
            named = rf"^{other}\s*[.=]" if file.suffix == ".toml" else rf"\b{crate}\s*::|\bextern crate {crate}\b"
            if re.search(named, text, re.MULTILINE):
                yield f"{file.relative_to(function.parent)} names {other}: functions never import each other"


def pure_domain(domain: Path) -> Iterator[str]:
    """The crate shared/domain names no AWS crate and no runtime crate, and contains no async code."""
    for path, module in Crate(domain / "src").modules.items():
        where = "::".join(path) or "lib"
        for name in sorted({*AWS.findall(module.code), *RUNTIME.findall(module.code)}):
            yield f"{domain.name}: {where} names {name}"
        if found := WAITS.search(module.code):
            yield f"{domain.name}: {where} waits ({found[0]})"


def testing_is_no_default(manifest: Path) -> Iterator[str]:
    """No default feature enables `testing`, directly or through another feature. Only development dependencies do."""
    document = tomllib.loads(manifest.read_text())
    features: dict[str, list[str]] = document.get("features", {})
    ahead, seen = ["default"], set()
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += features.get(name, [])
    if any(name.rpartition("/")[2] == "testing" for name in seen):
        yield f"{manifest}: the default features contain `testing`"
    for section in ("dependencies", "build-dependencies"):
        for name, dependency in document.get(section, {}).items():
            if isinstance(dependency, dict) and "testing" in dependency.get("features", []):
                yield f"{manifest}: [{section}] {name} asks for `testing`, which is for [dev-dependencies]"


def small(file: Path) -> Iterator[str]:
    """A file has at most 450 lines, a function at most 70."""
    text = file.read_text()
    if (lines := len(text.splitlines())) > FILE_LINES:
        yield f"{file} has {lines} lines, more than {FILE_LINES}"
    for name, length in functions_of(text) if file.suffix == ".rs" else python_functions(text):
        if length > FUNCTION_LINES:
            yield f"{file}: `{name}` has {length} lines, more than {FUNCTION_LINES}"


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Yields the name and the number of lines of each function in a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
