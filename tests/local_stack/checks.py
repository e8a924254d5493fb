"""`make test`: every check and test, one after the other; the first that fails ends it."""

from . import tools
from .build import build, environment
from .layout import ROOT, tool
from .processes import Failure, Kept


def checks():
    pytest = [tool("python"), "-m", "pytest", "-q"]
    _step("Format", ["cargo", "fmt", "--all", "--check"])
    _step("Lints", ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    _step("Tests of the crates", ["cargo", "test", "--workspace", "--locked"])
    deny = tools.cargo_deny()
    _step("Licences, bans and sources of what is built in", [deny, "--locked", "check", "licenses", "bans", "sources"])
    build()
    # The whole path last: what is wrong in a part shows sooner, and plainer, in the part's own tests.
    folders = {file.parent.name for file in (ROOT / "tests").glob("*/test_*.py")}
    for folder in sorted(folders, key=lambda name: (name == "end_to_end", name)):
        _step(f"Tests in tests/{folder}", [*pytest, f"tests/{folder}"])
    print("\nEverything holds.", flush=True)


def _step(title, command):
    print(f"\n── {title}", flush=True)
    kept = Kept(command, cwd=ROOT, env=environment())
    try:
        code = kept.wait(None)
    finally:
        kept.end()
    if code:
        raise Failure(f"{title}: failed ({' '.join(map(str, command))})")
