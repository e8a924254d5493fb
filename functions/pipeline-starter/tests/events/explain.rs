//! `explain` returns the plan of the real path. It writes no row and makes no call to CodePipeline or SNS.

use std::time::Duration;

use pipeline_starter::Outcome::{self, Duplicate, ExecutionFailed, Failed, Filtered, Ignored, Stale, Started};
use pipeline_starter::claim::{self, Progress};
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Key, Store};
use serde_json::json;

use crate::function::{Function, NO_CALLS, PIPELINE_IS_FULL, SEQUENCE, START, change, claimed, file, shop};

/// Explains an event, and checks that nothing was written or called.
async fn explain(function: &Function, event: &str) -> Vec<Decision<Outcome>> {
    let before = function.world().ledger.rows();
    let payload = format!(r#"{{"action":"explain","event":{event}}}"#);
    let decisions = function.handle(&payload).await.unwrap().decisions;
    assert_eq!(function.world().ledger.rows(), before);
    assert_eq!(function.take_calls(), NO_CALLS);
    decisions
}

fn outcomes(decisions: &[Decision<Outcome>]) -> Vec<Outcome> {
    decisions.iter().map(|decision| decision.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn each_plan_for_a_change_is_explained() {
    let newer = (SEQUENCE + 3).to_string();
    let cases = [
        (claimed(0, START), Started, "another invocation"),
        (claimed(0, START).with(Progress::Waiting(PIPELINE_IS_FULL.to_owned())), Started, "at this commit"),
        (claimed(0, START).with(Progress::Started("e".to_owned())), Duplicate, "execution e"),
        (claimed(3, START).with(Progress::Started("e".to_owned())), Stale, newer.as_str()),
    ];
    for (row, outcome, detail) in cases {
        let function = Function::new();
        function.write_row("shop", &row);
        let decisions = explain(&function, &file("change")).await;
        assert_eq!(outcomes(&decisions), [outcome], "{row:?}");
        assert!(decisions[0].reason.contains(detail), "{decisions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_was_sent_is_a_duplicate() {
    let function = Function::new();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-failed")).await), [ExecutionFailed]);
    function.handle(&file("pipeline-failed")).await.unwrap();
    function.take_calls();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-failed")).await), [Duplicate]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_has_the_same_outcomes_when_it_is_explained() {
    let function = Function::new();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-succeeded")).await), [Ignored]);
    let unreadable = Key { pk: claim::partition(&shop()), sk: "unreadable".to_owned() };
    function.world().ledger.write(&unreadable, &json!({"sequence": "many"}), None, "another request").await.unwrap();
    let waiting = Progress::Waiting(PIPELINE_IS_FULL.to_owned());
    let branches = [("refs/heads/main", 2), ("refs/heads/release/1", 1), ("refs/heads/routed-before", 3)];
    for (branch, seconds) in branches {
        let change = Change { git_ref: branch.parse().unwrap(), ..change(seconds) };
        let row = claimed(seconds, START + Duration::from_secs(seconds)).with(waiting.clone());
        function.write_row_of(&change, &row);
    }
    let explained = explain(&function, &file("pipeline-failed")).await;
    assert_eq!(outcomes(&explained), [ExecutionFailed, Failed, Started, Started, Filtered]);
    let decided = function.handle(&file("pipeline-failed")).await.unwrap().decisions;
    assert_eq!(outcomes(&decided), outcomes(&explained));
    let commits = |decisions: &[Decision<Outcome>]| {
        decisions[1..].iter().map(|decision| decision.concerns.get("commit").cloned()).collect::<Vec<_>>()
    };
    assert_eq!(commits(&decided), commits(&explained), "in the same order");
}
