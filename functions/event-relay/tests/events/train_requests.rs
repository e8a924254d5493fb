//! Requests about trains, one at a time.

use std::time::Duration;

use sekisho_domain::order::OrderKind::{Deploy, Rollback};
use serde_json::json;

use crate::function::commit;
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD, about, request};

fn hold(wave: &str) -> serde_json::Value {
    about("hold", wave)
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_is_not_found() {
    let train = Train::new();
    train.push(1).await;
    let unknown = commit(77).to_string();
    for (request, words) in [
        (json!({"action": "train", "route": "web"}), "write one of shop"),
        (json!({"train": "web"}), "or one of shop"),
        (json!({"hold": "web/tokyo", "reason": "r"}), "write one of shop"),
        (json!({"pardon": "ABCD2345", "reason": "r"}), "a code of the last 14 days"),
        (about("hold", "osaka"), "write one of one-box, tokyo, world"),
        (about("accept", "osaka"), "one-box"),
        (about("rollback", "osaka"), "one-box"),
        (request("resume", json!({"wave": "osaka"})), "one-box"),
        (json!({"resume": "shop/osaka"}), "one-box"),
        (request("promote", json!({"wave": "osaka", "revision": commit(1), "reason": "r"})), "one-box"),
        (request("promote", json!({"wave": "tokyo", "revision": unknown, "reason": "r"})), "00000000 main"),
        (request("pardon", json!({"revision": unknown, "reason": "r"})), "00000000 main"),
        (request("hold", json!({"ref": "dev", "reason": "r"})), "no branch or tag `dev`"),
    ] {
        let (error, message) = train.error(request.clone()).await;
        assert_eq!(error, "NotFound", "{request}: {message}");
        assert!(message.contains(words), "{request}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_its_wave_lists_the_waves() {
    let train = Train::new();
    for request in [
        request("accept", json!({"reason": "r"})),
        request("rollback", json!({"reason": "r"})),
        request("promote", json!({"revision": commit(1), "reason": "r"})),
        json!({"accept": "shop", "reason": "r"}),
    ] {
        let (error, message) = train.error(request.clone()).await;
        assert_eq!(error, "InvalidRequest", "{request}: {message}");
        assert!(message.contains("one of one-box, tokyo, world, as in {\"action\":"), "{request}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn digits_with_which_several_commits_begin_are_invalid() {
    let train = Train::new();
    train.push(1).await;
    train.push(2).await;
    let ask = |revision: &str| request("promote", json!({"wave": "tokyo", "revision": revision, "reason": "r"}));
    let (error, message) = train.error(ask("0000000")).await;
    assert_eq!(error, "InvalidRequest");
    assert!(message.contains(commit(1).as_str()) && message.contains(commit(2).as_str()), "{message}");
    // A reference may leave only one of them.
    train.push_to("hotfix", 3).await;
    let narrowed = request("promote", json!({"wave": "tokyo", "revision": "0000000", "ref": "hotfix", "reason": "r"}));
    train.answer(narrowed).await;
    assert_eq!(train.order(TOKYO[0]), Some((3, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn nothing_enters_a_held_wave_until_it_is_resumed() {
    let train = Train::new();
    let answer = train.answer(hold("tokyo")).await;
    assert!(answer.starts_with("Until `resume`, no change enters tokyo of shop."), "{answer}");
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.order(TOKYO[0]), None);
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains("tokyo: no change yet; held until `resume`: why not; next is 00000000 main"), "{shown}");
    let answer = train.answer(json!({"resume": "shop/tokyo"})).await;
    assert!(answer.starts_with("tokyo of shop is no longer held: why not."), "{answer}");
    assert_eq!(train.order(TOKYO[0]), Some((1, Deploy)));
    assert_eq!(train.row().holds, []);
    let outcomes = train.outcomes();
    assert!(outcomes.contains(&"held".to_owned()) && outcomes.contains(&"resumed".to_owned()), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_with_minutes_ends_by_itself() {
    let train = Train::new();
    train.answer(request("hold", json!({"reason": "sale", "minutes": 30}))).await;
    train.push(1).await;
    assert_eq!(train.order(ONE_BOX), None);
    train.wait(Duration::from_mins(29)).await;
    train.reconcile().await;
    assert_eq!(train.order(ONE_BOX), None);
    train.wait(Duration::from_mins(2)).await;
    train.reconcile().await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_a_reference_lets_the_others_pass() {
    let train = Train::new();
    train.answer(request("hold", json!({"ref": "main", "reason": "broken"}))).await;
    train.push(1).await;
    assert_eq!(train.order(ONE_BOX), None);
    train.push_to("hotfix", 2).await;
    assert_eq!(train.order(ONE_BOX), Some((2, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn the_hold_of_the_train_and_that_of_a_wave_are_two() {
    let train = Train::new();
    train.answer(request("hold", json!({"reason": "all"}))).await;
    train.answer(hold("one-box")).await;
    train.answer(request("hold", json!({"wave": "one-box", "ref": "main", "reason": "main"}))).await;
    train.push(1).await;
    let answer = train.answer(request("resume", json!({}))).await;
    assert!(answer.contains("shop is no longer held: all."), "{answer}");
    assert!(answer.contains("one-box is still held until `resume`: why not."), "{answer}");
    assert_eq!(train.order(ONE_BOX), None);
    let answer = train.answer(request("resume", json!({"wave": "one-box"}))).await;
    assert!(answer.contains("why not; main"), "every reference: {answer}");
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    let answer = train.answer(request("resume", json!({"wave": "one-box"}))).await;
    assert!(answer.starts_with("No hold of one-box of shop was found."), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_hold_of_a_wave_that_is_gone_is_ended_by_its_old_name_or_without_a_name() {
    for resume in [json!({"wave": "world"}), json!({})] {
        let mut train = Train::new();
        train.push(1).await;
        train.answer(hold("world")).await;
        let without = TRAIN.rsplit_once("[[route.wave]]\nname = \"world\"").unwrap().0.to_owned();
        train.function.relay.routes = crate::function::routes(&without);
        train.push(2).await;
        train.report(ONE_BOX, "healthy").await;
        assert_eq!(train.order(ONE_BOX), Some((1, Deploy)), "the hold applies to the whole train");
        let shown = train.answer(json!({"train": "shop"})).await;
        assert!(shown.contains("The train is held until `resume`: why not"), "{shown}");
        train.answer(request("resume", resume)).await;
        assert_eq!(train.order(ONE_BOX), Some((2, Deploy)));
    }
}

/// The request is the first to see the new configuration.
#[tokio::test(start_paused = true)]
async fn a_request_after_the_train_was_edited_closes_the_targets_that_left() {
    let mut train = Train::new();
    train.healthy_everywhere(1).await;
    let without = TRAIN.replace("\"333333333333\", \"444444444444\"", "\"333333333333\"");
    train.function.relay.routes = crate::function::routes(&without);
    train.answer(hold("tokyo")).await;
    let decisions = train.function.stored_decisions();
    let closed = decisions.iter().filter(|one| one["outcome"] == "filtered" && one["target"] == TOKYO[1]).count();
    assert_eq!(closed, 1, "{decisions:?}");
    assert_eq!(train.row().holds[0].wave.as_deref(), Some("tokyo"));
}

#[tokio::test(start_paused = true)]
async fn accepting_takes_the_unknown_targets_of_a_wave_for_healthy() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "unknown").await;
    train.push(2).await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)), "the wave is not free");
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains("waits for `accept` or `rollback` of the unknown target"), "{shown}");
    assert!(shown.contains(&format!("- {ONE_BOX} unknown: reason unknown")), "{shown}");
    let answer = train.answer(about("accept", "one-box")).await;
    assert!(answer.starts_with(&format!("{ONE_BOX} now counts as healthy in one-box of shop.")), "{answer}");
    assert_eq!((train.order(TOKYO[0]), train.order(ONE_BOX)), (Some((1, Deploy)), Some((2, Deploy))));
    let answer = train.answer(about("accept", "one-box")).await;
    assert!(answer.starts_with("No target of one-box of shop is unknown"), "{answer}");
    assert_eq!(train.outcomes().iter().filter(|outcome| *outcome == "accepted").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_promoted_change_enters_a_wave_although_it_is_held_and_older() {
    let train = Train::new();
    train.push(1).await;
    train.push(2).await;
    train.answer(request("hold", json!({"reason": "freeze"}))).await;
    let promote = request("promote", json!({"wave": "world", "revision": commit(2), "reason": "urgent"}));
    let answer = train.answer(promote).await;
    assert!(answer.starts_with("00000000 main enters world of shop as soon as the wave is free."), "{answer}");
    assert_eq!(train.order(WORLD), Some((2, Deploy)));
    train.report(WORLD, "healthy").await;
    train.answer(request("promote", json!({"wave": "world", "revision": commit(1), "reason": "older"}))).await;
    assert_eq!(train.order(WORLD), Some((1, Deploy)));
    assert!(train.outcomes().contains(&"promoted".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_change_in_the_wave_is_promoted_also_if_its_revision_came_back_from_another_branch() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "healthy").await;
    train.report(TOKYO[1], "waiting").await;
    train.push(2).await;
    train.push_to("hotfix", 1).await;
    train.answer(request("promote", json!({"wave": "tokyo", "revision": commit(1), "reason": "urgent"}))).await;
    let tokyo = train.row().wave("tokyo").cloned().unwrap();
    assert_eq!(tokyo.promotion, None);
    assert!(tokyo.passage.is_some_and(|passage| passage.promoted));
}

#[tokio::test(start_paused = true)]
async fn a_condemned_change_is_refused_by_promote_until_it_is_pardoned() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    let promote = request("promote", json!({"wave": "tokyo", "revision": commit(1), "reason": "urgent"}));
    let (error, message) = train.error(promote.clone()).await;
    assert_eq!(error, "Refused");
    assert!(message.contains(r#"{"action":"pardon","route":"shop""#), "{message}");
    let pardon = request("pardon", json!({"revision": commit(1), "reason": "flaky"}));
    let answer = train.answer(pardon.clone()).await;
    assert!(answer.starts_with("00000000 main is no longer condemned."), "{answer}");
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.order(TOKYO[0]), Some((1, Deploy)));
    let answer = train.answer(pardon).await;
    assert!(answer.contains("is not condemned: nothing to pardon"), "{answer}");
    train.answer(promote).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_the_bake_was_over() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.healthy_everywhere(2).await;
    train.wait(Duration::from_hours(24)).await;
    let answer = train.answer(about("rollback", "tokyo")).await;
    assert!(answer.starts_with("00000000 main is condemned, and each target of tokyo of shop"), "{answer}");
    for target in TOKYO {
        assert_eq!(train.order(target), Some((1, Rollback)));
    }
    assert_eq!(train.order(WORLD), Some((2, Deploy)), "only the wave goes back");
    train.report(TOKYO[0], "rolled-back").await;
    train.report(TOKYO[1], "rolled-back").await;
    train.push(3).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.order(TOKYO[0]), Some((1, Rollback)), "the wave is held");
    train.answer(json!({"resume": "shop/tokyo"})).await;
    assert_eq!(train.order(TOKYO[0]), Some((3, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_became_unknown_is_ordered_again() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "running").await;
    train.report(TOKYO[1], "rolled-back").await;
    train.report(TOKYO[0], "unknown").await;
    train.function.account().accepted.take();
    let answer = train.answer(about("rollback", "tokyo")).await;
    assert!(answer.contains(&format!("The unknown rollback of {} is ordered again.", TOKYO[0])), "{answer}");
    let offered = train.function.account().accepted.take();
    assert_eq!(offered.len(), 1, "{offered:?}");
    assert!(offered[0].detail.contains("rollback") && offered[0].account.as_str() == "333333333333", "{offered:?}");
    assert_eq!(train.order(TOKYO[0]), Some((1, Rollback)));
    train.report(TOKYO[0], "rolled-back").await;
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains("sent back") && !shown.contains("unknown"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_ends_the_offers_to_a_target_that_never_answered() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[1], "running").await;
    train.wait(Duration::from_mins(5)).await;
    let answer = train.answer(about("rollback", "tokyo")).await;
    let words = format!("Nothing was healthy before in {}: it has not answered to the order", TOKYO[0]);
    assert!(answer.contains(&words), "{answer}");
    train.function.account().accepted.take();
    train.wait(Duration::from_hours(3)).await;
    train.reconcile().await;
    let offered = train.function.account().accepted.take();
    assert!(offered.iter().all(|event| event.account.as_str() != "333333333333"), "{offered:?}");
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains(&format!("- {} never answered", TOKYO[0])), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_names_the_targets_that_cannot_go_back() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "running").await;
    train.report(TOKYO[1], "waiting").await;
    let answer = train.answer(about("rollback", "tokyo")).await;
    for words in [
        format!("Nothing was healthy before in {}: it still waits for this change", TOKYO[1]),
        format!("Nothing was healthy before in {}: it stays as it is.", TOKYO[0]),
        format!("- {} waiting: reason waiting", TOKYO[1]),
    ] {
        assert!(answer.contains(&words), "{answer}");
    }
    let notice = train.function.account().notices.borrow()[0].clone();
    let line = format!("{} still waits for this change and starts it when it can (reason waiting)", TOKYO[1]);
    assert!(notice.lines.iter().any(|one| one.starts_with(&line)), "{notice:?}");
    // A newer change ends the order, as soon as the wave is not held any more.
    train.report(TOKYO[0], "healthy").await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.answer(json!({"resume": "shop/tokyo"})).await;
    assert_eq!(train.order(TOKYO[1]), Some((2, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn resend_and_the_reconcile_offer_an_order_of_a_wave_whose_branch_is_not_routed_any_more() {
    let mut train = Train::new();
    train.push(1).await;
    train.function.relay.routes = crate::function::routes(&TRAIN.replace("\"main\", ", ""));
    train.function.account().accepted.take();
    train.answer(request("resend", json!({"account": "222222222222"}))).await;
    train.wait(Duration::from_mins(11)).await;
    train.reconcile().await;
    assert_eq!(train.function.account().accepted.take().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn resend_sends_no_condemned_change_to_a_target_that_refused_it() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[1], "refused").await;
    train.report(TOKYO[0], "failed").await;
    train.function.account().accepted.take();
    train.wait(Duration::from_hours(1)).await;
    train.reconcile().await;
    assert_eq!(train.function.account().accepted.take().len(), 0);
    let (error, message) = train.error(request("resend", json!({"account": "444444444444"}))).await;
    assert_eq!(error, "NotFound", "{message}");
    assert!(message.contains("00000000 main is condemned and not offered any more"), "{message}");
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains(&format!("- {} refused it: reason refused", TOKYO[1])), "{shown}");
    train.answer(request("pardon", json!({"revision": commit(1), "reason": "r"}))).await;
    let accounts: Vec<String> = train.function.accepted().into_iter().map(|(account, _)| account).collect();
    assert_eq!(accounts, ["333333333333", "444444444444"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_with_nothing_left_to_send_back_says_so() {
    let train = Train::new();
    let answer = train.answer(about("rollback", "tokyo")).await;
    assert!(answer.starts_with("Nothing to send back: no change entered tokyo of shop yet."), "{answer}");
    train.healthy_everywhere(1).await;
    train.healthy_everywhere(2).await;
    train.answer(about("rollback", "tokyo")).await;
    for target in TOKYO {
        train.report(target, "rolled-back").await;
    }
    let before = train.row();
    let answer = train.answer(about("rollback", "tokyo")).await;
    assert!(answer.starts_with("Nothing is left to send back: 00000000 main was sent back"), "{answer}");
    let of_hotfix = request("rollback", json!({"wave": "world", "ref": "hotfix", "reason": "r"}));
    let answer = train.answer(of_hotfix).await;
    assert!(answer.contains("the last change of world of shop is 00000000 main, and not of hotfix"), "{answer}");
    assert_eq!(train.row(), before);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_answer_and_changes_nothing() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "unknown").await;
    let (row, rows) = (train.row(), train.function.account().ledger.rows().len());
    train.function.calls();
    for (action, more) in [
        ("hold", json!({})),
        ("resume", json!({})),
        ("accept", json!({"wave": "one-box"})),
        ("promote", json!({"wave": "tokyo", "revision": commit(2)})),
        ("pardon", json!({"revision": commit(2)})),
        ("rollback", json!({"wave": "tokyo"})),
    ] {
        let mut request = request(action, more);
        (request["dry_run"], request["reason"]) = (json!(true), json!("why not"));
        let answer = train.answer(request).await;
        assert!(answer.starts_with("Nothing was changed. Without `dry_run`, the answer is:\n"), "{answer}");
    }
    assert_eq!((train.row(), train.function.account().ledger.rows().len()), (row, rows));
    assert_eq!(train.function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_route_without_waves_is_shown_and_refuses_what_only_waves_have() {
    let train = Train::with(crate::function::CONFIG);
    train.push(1).await;
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.starts_with("shop has no waves: its targets get every new head at once.\n"), "{shown}");
    assert!(shown.contains("222222222222/ap-northeast-1/shop: 00000000 main no report"), "{shown}");
    for action in ["accept", "rollback"] {
        let (error, message) = train.error(about(action, "tokyo")).await;
        assert_eq!(error, "Refused", "{message}");
        assert!(message.contains("has no waves"), "{message}");
    }
}
