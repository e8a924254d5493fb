//! The end of an execution: a failure is told once, and what waited is started.

use std::time::Duration;

use pipeline_starter::claim::{self, Progress, State};
use pipeline_starter::handler::Outcome::{Duplicate, Failed, Filtered, Ignored, Started};
use pipeline_starter::notice::Failed as Why;
use pipeline_starter::world::Started as Answer;
use sekisho_domain::change::Change;
use sekisho_domain::notice::Notice;
use sekisho_lambda::Failure;
use sekisho_ledger::{Key, Store};

use crate::world::{FULL, Function, START, change, event, file};

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_with_pipeline_stage_reason_commit_and_link() {
    let function = Function::new();
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, Failed);
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, Duplicate);
    let told = function.world().told.take();
    let link = "https://ap-northeast-1.console.aws.amazon.com/codesuite/codepipeline/pipelines/shop/executions/\
                a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968/timeline?region=ap-northeast-1";
    let expected = Notice {
        title: "Pipeline shop failed in 222222222222, ap-northeast-1".to_owned(),
        lines: ["Where: Build / Build", "Why: exit status 1", "Commit: 1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706"]
            .map(str::to_owned)
            .to_vec(),
        link: Some(("Execution".to_owned(), link.to_owned())),
        ..Notice::default()
    };
    assert_eq!(told, [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_which_nothing_is_known_is_told_all_the_same() {
    let function = Function::new();
    function.world().failed.replace(Why::default());
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, Failed);
    let lines = function.world().told.borrow()[0].lines.clone();
    assert_eq!(lines, ["Where: not known", "Why: not known", "Commit: not known"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_could_not_be_told_is_tried_again() {
    let function = Function::new();
    function.world().topic_is_down.set(true);
    let error = function.handle(&file("pipeline-failed")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    function.world().topic_is_down.set(false);
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, Failed);
    assert_eq!(function.world().told.borrow().len(), 1);
}

/// A pipeline that can't take more gets the newest when it can, and what it replaces is stale.
#[tokio::test(start_paused = true)]
async fn a_full_pipeline_gets_the_newest_when_an_execution_ends() {
    let function = Function::new();
    function.says(|_| Answer::Later(FULL.to_owned()));
    for later in [1, 2] {
        assert!(function.handle(&event(change(later), &["shop"])).await.is_err());
    }
    function.says(|_| Answer::Execution("e".to_owned()));
    function.calls();
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "e"));
    assert_eq!(decision.concerns["commit"], change(2).commit.as_str());
    assert_eq!(function.calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
    let retried = function.handle(&event(change(1), &["shop"])).await.unwrap().decisions;
    assert!(retried[0].reason.contains("newer change"), "{retried:?}");
}

/// The decision about what was started was lost with the failure of the other.
#[tokio::test(start_paused = true)]
async fn what_was_started_is_kept_where_another_reference_still_waits() {
    let function = Function::new();
    function.says(|_| Answer::Later(FULL.to_owned()));
    let release = Change { git_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(1) };
    assert!(function.handle(&event(change(2), &["shop"])).await.is_err());
    assert!(function.handle(&event(release.clone(), &["shop"])).await.is_err());
    let commit = release.commit.clone();
    function.says(move |start| {
        if start.commit == commit { Answer::Later(FULL.to_owned()) } else { Answer::Execution("e".to_owned()) }
    });
    assert_eq!(function.handle(&file("pipeline-succeeded")).await.unwrap_err().error_type().name(), "Throttled");
    let recorded = function.recorded();
    assert_eq!(
        (recorded.len(), &recorded[0]["outcome"], &recorded[0]["execution"]),
        (1, &"started".into(), &"e".into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_takes_up_what_a_crash_left() {
    let function = Function::new();
    function.write("shop", &State::claimed(&change(0), &"shop".parse().unwrap(), START));
    tokio::time::advance(Duration::from_secs(56)).await;
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Started);
    assert_eq!(function.calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_closes_what_waited_and_is_routed_no_more() {
    let function = Function::new();
    let gone = Change { git_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    let claim = State::claimed(&gone, &"shop".parse().unwrap(), START).with(Progress::Waiting(FULL.to_owned()));
    let key = claim::key(&"shop".parse().unwrap(), &gone.repository, &gone.git_ref);
    function.world().ledger.write(&key, &claim, None, "another").await.unwrap();
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Filtered, gone.commit.as_str()));
    // Also when the route is back: it was skipped in silence, and then started months later.
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_row_keeps_nothing_else_from_starting() {
    let function = Function::new();
    let broken = Key { pk: claim::partition("shop"), sk: "broken".to_owned() };
    let broken_row = std::collections::BTreeMap::from([("sequence", "many")]);
    function.world().ledger.write(&broken, &broken_row, None, "another").await.unwrap();
    let waiting = State::claimed(&change(0), &"shop".parse().unwrap(), START).with(Progress::Waiting(FULL.to_owned()));
    function.write("shop", &waiting);
    let decisions = function.handle(&file("pipeline-succeeded")).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Started]);
    assert!(decisions[0].reason.contains("pipeline#shop / broken"));
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_longest_is_started_first() {
    let function = Function::new();
    for (branch, since) in [("refs/heads/main", 2), ("refs/heads/release/1", 1)] {
        let change = Change { git_ref: branch.parse().unwrap(), ..change(since) };
        let state = State::claimed(&change, &"shop".parse().unwrap(), START + Duration::from_secs(since));
        let key = claim::key(&"shop".parse().unwrap(), &change.repository, &change.git_ref);
        let waiting = state.with(Progress::Waiting(FULL.to_owned()));
        function.world().ledger.write(&key, &waiting, None, "another").await.unwrap();
    }
    function.handle(&file("pipeline-succeeded")).await.unwrap();
    let started: Vec<_> = function.world().started.borrow().iter().map(|start| start.commit.clone()).collect();
    assert_eq!(started, [change(1).commit, change(2).commit]);
}

#[tokio::test(start_paused = true)]
async fn an_end_leaves_alone_what_another_invocation_is_at() {
    let function = Function::new();
    let claim = State::claimed(&change(0), &"shop".parse().unwrap(), START);
    function.write("shop", &claim);
    function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((function.calls(), function.row("shop").unwrap().state), (vec![], claim.clone()));
    function.write("shop", &claim.with(Progress::Started("e".to_owned())));
    function.decide(&file("pipeline-succeeded")).await;
    assert_eq!(function.calls(), [""; 0]);
}
