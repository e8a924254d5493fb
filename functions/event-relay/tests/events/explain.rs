//! `explain` describes the plan of the real path, and writes and sends nothing. The files of `events/event-relay` cover
//! the plans of an account without rows.

use event_relay::Outcome::Duplicate;

use crate::function::{MAIN, START, change_to_second_commit, commit, relayed, write};

#[tokio::test(start_paused = true)]
async fn explain_reports_a_pending_change_and_a_duplicate() {
    let function = relayed().await;
    let before = function.account().ledger.rows();
    let explained = function.decide("explain").await;
    assert_eq!(explained.outcome, Duplicate);
    let row = function.row(MAIN).unwrap().state;
    write(function.account(), MAIN, &row.with_pending(change_to_second_commit(&row), vec![], None, START));
    let rows = function.account().ledger.rows();
    assert_ne!(rows, before);
    function.point("main", Some(commit(2)));
    let explained = function.decide("explain").await;
    assert_eq!((explained.outcome, &explained.concerns["pending"]), (Duplicate, &(row.sequence + 1).to_string()));
    assert_eq!(function.account().ledger.rows(), rows);
    assert_eq!(function.accepted(), []);
}
