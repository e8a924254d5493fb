"""Each rule of the layout finds its violation in a small made-up function."""

import pytest

from tests.checks import layout_rules
from tests.checks.rust_source import Crate, code_of, cycles, functions_of

# A function that keeps every rule.
SOUND = {
    "src/lib.rs": (
        "mod aws;\nmod error;\nmod head;\nmod outcome;\nmod relay;\nmod request;\nmod run;\npub use relay::Relay;\n"
    ),
    "src/main.rs": "fn main() { event_relay::Relay::run() }\n",
    "src/request.rs": "use aws_lambda_events::event::Event;\npub(crate) struct Request;\n",
    "src/outcome.rs": "pub enum Outcome { Relayed }\n",
    "src/error.rs": "pub enum Error { Ledger }\n",
    "src/run.rs": "pub(crate) struct Run;\nimpl Run { pub(crate) async fn write(&self) {} }\n",
    "src/head.rs": "use crate::outcome::Outcome;\npub(crate) fn decide() -> Outcome { Outcome::Relayed }\n",
    "src/relay.rs": (
        "mod change;\nuse crate::request::Request;\nuse crate::run::Run;\n"
        "pub struct Relay;\nimpl Relay { pub async fn run(request: Request) { change::relay(&Run).await } }\n"
    ),
    "src/relay/change.rs": (
        "use crate::aws::codecommit::CodeCommit;\nuse crate::head;\nuse crate::run::Run;\n"
        "pub(super) async fn relay(run: &Run) { head::decide(); run.write().await }\n"
    ),
    "src/aws.rs": "pub(crate) mod codecommit;\npub(crate) mod sqs;\npub(crate) struct Clients;\n",
    "src/aws/codecommit.rs": (
        "use aws_sdk_codecommit::Client;\nuse super::Clients;\npub(crate) struct CodeCommit(Client);\n"
    ),
    "src/aws/sqs.rs": "use aws_sdk_sqs::Client;\npub(crate) struct Sqs(Client);\n",
    "Cargo.toml": '[package]\nname = "event-relay"\n[features]\ntesting = []\n[dependencies]\nserde = "1"\n',
}


@pytest.fixture
def function(tmp_path):
    """A function that writes the sound example with changed files (None removes a file), and returns its folder."""

    def write(**changes):
        folder = tmp_path / "event-relay"
        for name, text in (SOUND | changes.pop("files", {})).items():
            if text is not None:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        return folder

    return write


def test_the_sound_example_keeps_every_rule(function):
    folder = function()
    assert list(layout_rules.layout(folder, "relay")) == []
    assert list(layout_rules.no_imports_between_functions(folder, {"event-relay", "temp-access"})) == []
    assert list(layout_rules.testing_is_no_default(folder / "Cargo.toml")) == []


BROKEN = [
    # Each row has a name for the broken rule, the changed files, and a part of the text of the violation.
    ("no request", {"src/request.rs": None}, "has no src/request.rs"),
    ("no verb", {"src/relay.rs": None}, "has no src/relay.rs"),
    ("no use case", {"src/relay/change.rs": None}, "has no file in src/relay/"),
    ("no adapter", {"src/aws/codecommit.rs": None, "src/aws/sqs.rs": None}, "has no file in src/aws/"),
    ("mod.rs", {"src/relay/mod.rs": ""}, "as relay.rs"),
    ("AWS in a pure module", {"src/head.rs": "use aws_sdk_sqs::Client;\n"}, "head names aws_sdk_sqs"),
    (
        "AWS in the context",
        {"src/run.rs": "use aws_sdk_sqs::Client;\npub(crate) struct Run;\n"},
        "run names aws_sdk_sqs",
    ),
    ("the SDK in request", {"src/request.rs": "use aws_sdk_sqs::Client;\n"}, "request names aws_sdk_sqs"),
    (
        "the outer event elsewhere",
        {"src/head.rs": "use aws_lambda_events::event::Event;\n"},
        "head names aws_lambda_events",
    ),
    ("async in a pure module", {"src/head.rs": "pub(crate) async fn decide() {}\n"}, "head waits (async)"),
    ("await in a pure module", {"src/head.rs": "macro_rules! m { () => { x.await } }\n"}, "head waits (.await)"),
    (
        "a future in a pure module",
        {"src/head.rs": "fn f() -> impl Future<Output = ()> { g() }\n"},
        "head waits (Future)",
    ),
    ("the runtime in a pure module", {"src/head.rs": "fn f() { tokio::spawn(g()); }\n"}, "head names tokio"),
    (
        "a use case imports the verb",
        {"src/relay/change.rs": "use super::Relay;\nfn f(relay: Relay) {}\n"},
        "relay::change imports relay (use super::Relay)",
    ),
    (
        "a glob imports the verb",
        {"src/relay/change.rs": "use super::*;\n"},
        "relay::change imports relay (use super::*)",
    ),
    (
        "a path names the verb",
        {"src/head.rs": "fn f() -> crate::relay::Relay { todo!() }\n"},
        "head imports relay (crate::relay::Relay)",
    ),
    (
        "the root's re-export names the verb",
        {"src/head.rs": "use crate::Relay;\n"},
        "head imports relay (use crate::Relay)",
    ),
    (
        "a pure module imports a use case",
        {"src/head.rs": "use crate::relay::change;\n"},
        "head imports a use case of relay, relay::change",
    ),
    (
        "an adapter imports the verb",
        {"src/aws/sqs.rs": "use crate::{outcome::Outcome, relay::Relay};\n"},
        "aws::sqs imports relay",
    ),
    (
        "an adapter imports another one",
        {"src/aws/sqs.rs": "use super::codecommit::CodeCommit;\n"},
        "aws::sqs imports another adapter, aws::codecommit",
    ),
    (
        "a type in the root",
        {"src/lib.rs": "mod head;\nmod outcome;\npub struct Shared;\n", "src/head.rs": "use crate::Shared;\n"},
        "head imports lib",
    ),
    (
        "a cycle of imports",
        {"src/head.rs": "use crate::outcome::Outcome;\n", "src/outcome.rs": "use crate::head::Head;\n"},
        "head, outcome need each other",
    ),
    (
        "a cycle through a re-export",
        {
            "src/head.rs": "use crate::error::Outcome;\n",
            "src/error.rs": "pub(crate) use crate::outcome::Outcome;\n",
            "src/outcome.rs": "use crate::head::Head;\n",
        },
        "head, outcome need each other",
    ),
    (
        "a cycle through methods in another file",
        {
            "src/outcome.rs": "pub(crate) struct Plan<T>(T);\n",
            "src/head.rs": "use crate::outcome::Plan;\nimpl<T: Into<String>> Plan<T> { fn more(&self) {} }\n",
        },
        "impl Plan in head",
    ),
    (
        "a cycle through a path in a function",
        {"src/outcome.rs": "fn f() { crate::head::decide(); }\n", "src/head.rs": "use crate::outcome::Outcome;\n"},
        "crate::head::decide",
    ),
    ("a thick main", {"src/main.rs": "fn main() {}\n" * 61}, "has 61 lines, more than 60"),
]


@pytest.mark.parametrize(("files", "violation"), [one[1:] for one in BROKEN], ids=[one[0] for one in BROKEN])
def test_a_broken_rule_is_found(function, files, violation):
    found = list(layout_rules.layout(function(files=files), "relay"))
    assert [one for one in found if violation in one], found


ALLOWED = [
    # Each row has a name, and files whose code looks like a violation but is none.
    ("a comment", {"src/head.rs": "// use crate::relay::Relay; async\n/* .await /* nested */ async */\nfn f() {}\n"}),
    (
        "a string",
        {"src/head.rs": 'fn f() -> &\'static str { "crate::relay::x .await" }\nconst S: &str = r#"async"#;\n'},
    ),
    ("a lifetime", {"src/head.rs": "fn f<'a>(x: &'a str) -> char { 'a' }\n"}),
    ("tests", {"src/head.rs": "#[cfg(test)]\nmod tests { use crate::relay::Relay; async fn f() {} }\nfn f() {}\n"}),
    (
        "a file of tests",
        {"src/head.rs": "#[cfg(test)]\nmod tests;\n", "src/head/tests.rs": "use crate::relay::Relay;\n"},
    ),
    (
        "a fake behind the feature",
        {
            "src/lib.rs": SOUND["src/lib.rs"] + '#[cfg(feature = "testing")]\npub mod fake;\n',
            "src/fake.rs": "use crate::relay::Relay;\npub async fn f() {}\n",
        },
    ),
    (
        "a port",
        {"src/world.rs": "pub trait World { async fn head(&self); fn f(&self) -> impl Future<Output = ()>; }\n"},
    ),
    (
        "a module in a file",
        {"src/head.rs": "struct Head;\nmod seconds { use super::Head; }\nfn f() { seconds::g() }\n"},
    ),
    (
        "a trait for another module's type",
        {
            "src/outcome.rs": "pub(crate) struct Plan;\n",
            "src/head.rs": "use crate::outcome::Plan;\nimpl From<Head> for Plan { }\nstruct Head;\n",
        },
    ),
    (
        "methods in a submodule of the type's module",
        {
            "src/head.rs": "mod seconds;\npub(crate) struct Head;\n",
            "src/head/seconds.rs": "use super::Head;\nimpl Head { fn seconds(&self) {} }\n",
        },
    ),
    (
        "a part of an adapter",
        {"src/aws/sqs.rs": "mod send;\nfn f() { send::g() }\n", "src/aws/sqs/send.rs": "use aws_sdk_sqs::Client;\n"},
    ),
    (
        "a re-export that the module itself does not use",
        {
            "src/aws.rs": "mod sqs;\nmod codecommit;\npub(crate) use sqs::Sqs;\n",
            "src/aws/sqs.rs": "use super::Clients;\n",
        },
    ),
]


@pytest.mark.parametrize("files", [one[1] for one in ALLOWED], ids=[one[0] for one in ALLOWED])
def test_only_violations_are_found(function, files):
    assert list(layout_rules.layout(function(files=files), "relay")) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Cargo.toml", '[dependencies]\ntemp-access = { path = "../temp-access" }\n'),
        ("Cargo.toml", "[dependencies]\ntemp-access.workspace = true\n"),
        ("src/head.rs", "use temp_access::Window;\n"),
        ("tests/events.rs", "fn f() { temp_access::grant() }\n"),
    ],
)
def test_an_import_of_another_function_is_found(function, file, text):
    folder = function(files={file: text})
    (violation,) = layout_rules.no_imports_between_functions(folder, {"event-relay", "temp-access"})
    assert "names temp-access" in violation


@pytest.mark.parametrize(
    "code", ["use aws_sdk_sqs::Client;\n", "pub async fn f() {}\n", "fn f() { tokio::spawn(g()); }\n"]
)
def test_an_impure_domain_is_found(tmp_path, code):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "change.rs").write_text(code)
    assert list(layout_rules.pure_domain(tmp_path))


@pytest.mark.parametrize(
    "manifest",
    [
        '[features]\ndefault = ["testing"]\ntesting = []\n',
        '[features]\ndefault = ["fakes"]\nfakes = ["testing"]\ntesting = []\n',
        '[features]\ndefault = ["sekisho-ledger/testing"]\n',
        '[dependencies]\nsekisho-ledger = { path = "x", features = ["testing"] }\n',
        '[build-dependencies]\nsekisho-ledger = { path = "x", features = ["testing"] }\n',
    ],
)
def test_testing_in_a_shipped_binary_is_found(tmp_path, manifest):
    file = tmp_path / "Cargo.toml"
    file.write_text(manifest)
    assert list(layout_rules.testing_is_no_default(file))


def test_testing_for_tests_is_no_violation(tmp_path):
    file = tmp_path / "Cargo.toml"
    file.write_text('[features]\ntesting = []\n[dev-dependencies]\nsekisho-ledger = { features = ["testing"] }\n')
    assert list(layout_rules.testing_is_no_default(file)) == []


@pytest.mark.parametrize(("name", "line"), [("long.rs", "// a line\n"), ("long.py", "# a line\n")])
def test_a_long_file_is_found(tmp_path, name, line):
    file = tmp_path / name
    file.write_text(line * 450)
    assert list(layout_rules.small(file)) == []
    file.write_text(line * 451)
    (violation,) = layout_rules.small(file)
    assert "has 451 lines, more than 450" in violation


@pytest.mark.parametrize(
    ("name", "head", "body", "tail"),
    [
        ("long.rs", "fn long() {\n", "    call();\n", "}\n"),
        # A closing brace in a literal does not end the function.
        ("braces.rs", "fn long() {\n", '    call(\'}\', "}", br#"}"#);\n', "}\n"),
        ("tests.rs", "#[cfg(test)]\nmod tests {\nfn long() {\n", "    call();\n", "}\n}\n"),
        ("long.py", "def long():\n", "    call()\n", "    call()\n"),
    ],
)
def test_a_long_function_is_found(tmp_path, name, head, body, tail):
    file = tmp_path / name
    file.write_text(head + body * 68 + tail)
    assert list(layout_rules.small(file)) == []
    file.write_text(head + body * 69 + tail)
    (violation,) = layout_rules.small(file)
    assert "`long` has 71 lines, more than 70" in violation


def test_the_reader_keeps_line_breaks_and_removes_literals():
    text = "fn f() {\n  let s = \"a\nb\"; // c\n  let c = '{';\n}\n"
    assert code_of(text).count("\n") == text.count("\n")
    assert '"' not in code_of(text)
    assert list(functions_of(text)) == [("f", 5)]


def test_a_nested_use_tree_has_an_edge_for_each_module(function):
    text = "use crate::{head::{self, decide as judge}, outcome::*};\n"
    edges = Crate(function(files={"src/error.rs": text}) / "src").edges()
    assert {edge.target for edge in edges if edge.source == "error"} == {"head", "outcome"}
    assert cycles(edges) == []
