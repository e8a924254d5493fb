//! The notices about trains, and the buttons below them.

use std::time::Duration;

use sekisho_domain::order::OrderKind::{Deploy, Rollback};
use serde_json::{Value, json};

use crate::function::commit;
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD, about, request};

/// The request of a button.
fn press(action: &str, code: &str) -> Value {
    json!({action: code, "reason": "pressed"})
}

fn kinds(train: &Train) -> Vec<String> {
    train.codes().into_iter().map(|(kind, _)| kind).collect()
}

fn last_code(train: &Train) -> String {
    train.codes().pop().unwrap().1
}

#[tokio::test(start_paused = true)]
async fn people_get_one_notice_about_a_condemned_change_and_can_pardon_it() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    train.reconcile().await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["condemned"]);
    let notice = train.function.account().notices.borrow()[0].clone();
    assert_eq!(notice.title, "shop: 00000000 is condemned");
    let code = last_code(&train);
    let text = notice.lines.join("\n");
    for words in [commit(1).as_str(), "refs/heads/main, shop", "reason failed", "By: wave one-box", code.as_str()] {
        assert!(text.contains(words), "{text} should contain {words}");
    }
    let answer = train.answer(press("pardon", &code.to_lowercase())).await;
    assert!(answer.starts_with("00000000 main is no longer condemned."), "{answer}");
    assert_eq!(train.row().condemned, []);
    let decision = train.function.stored_decisions().into_iter().find(|one| one["outcome"] == "pardoned").unwrap();
    assert_eq!((&decision["by"], &decision["commit"]), (&json!(format!("the code {code}")), &json!(commit(1))));
}

#[tokio::test(start_paused = true)]
async fn an_old_button_does_not_pardon_what_was_condemned_again() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    let first = last_code(&train);
    train.answer(press("pardon", &first)).await;
    train.report(ONE_BOX, "failed").await;
    assert_eq!(kinds(&train), ["condemned", "condemned"]);
    let (error, message) = train.error(press("pardon", &first)).await;
    assert_eq!(error, "Refused", "{message}");
    assert!(message.contains("condemned again after this notice"), "{message}");
    train.answer(press("pardon", &last_code(&train))).await;
    assert_eq!(train.row().condemned, []);
}

#[tokio::test(start_paused = true)]
async fn the_hold_button_holds_the_wave_that_failed() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    train.answer(press("hold", &last_code(&train))).await;
    assert_eq!(train.row().holds[0].wave.as_deref(), Some("one-box"));
    assert_eq!(kinds(&train), ["condemned", "held"]);
    train.push(2).await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    train.answer(json!({"resume": last_code(&train)})).await;
    assert_eq!(train.order(ONE_BOX), Some((2, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn an_old_resume_button_does_not_end_a_newer_hold() {
    let train = Train::new();
    train.answer(about("hold", "tokyo")).await;
    let first = last_code(&train);
    train.answer(request("hold", json!({"wave": "tokyo", "reason": "incident 7"}))).await;
    let (error, message) = train.error(json!({"resume": first})).await;
    assert_eq!(error, "Refused", "{message}");
    assert!(message.contains("incident 7"), "{message}");
    train.answer(json!({"resume": last_code(&train)})).await;
    assert_eq!(train.row().holds, []);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_target_leads_to_one_notice_with_an_accept_button() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "unknown").await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown"]);
    let notice = train.function.account().notices.borrow()[0].clone();
    assert_eq!(notice.title, "shop: wave tokyo waits, 1 target is unknown");
    assert!(notice.lines.contains(&format!("{}: reason unknown", TOKYO[0])), "{notice:?}");
    let code = last_code(&train);
    train.answer(press("accept", &code)).await;
    // Another target that becomes unknown after that needs another answer.
    train.report(TOKYO[1], "unknown").await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown", "unknown"]);
    train.answer(press("rollback", &last_code(&train))).await;
    for target in TOKYO {
        assert_eq!(train.order(target), Some((1, Rollback)));
    }
    let answer = train.answer(press("rollback", &code)).await;
    assert!(answer.starts_with("Nothing is left to send back"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn each_unknown_target_is_announced_and_a_button_accepts_only_the_targets_of_its_notice() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "unknown").await;
    let first = last_code(&train);
    train.report(TOKYO[1], "unknown").await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown", "unknown"], "the second notice names both targets");
    let answer = train.answer(press("accept", &first)).await;
    assert!(answer.starts_with(&format!("{} now counts as healthy", TOKYO[0])), "{answer}");
    assert_eq!(train.order(WORLD), Some((1, Deploy)), "the other target is still unknown");
    let answer = train.answer(press("accept", &first)).await;
    assert!(answer.starts_with("No target of the notice is unknown"), "{answer}");
    train.answer(press("accept", &last_code(&train))).await;
    assert_eq!(train.order(WORLD), Some((2, Deploy)));
}

/// The first target answers after all, and then the second one becomes unknown.
#[tokio::test(start_paused = true)]
async fn a_target_that_becomes_unknown_after_another_one_answered_leads_to_a_notice() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "unknown").await;
    train.report(TOKYO[0], "healthy").await;
    train.report(TOKYO[1], "unknown").await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown", "unknown"]);
}

/// The alarm that a wave of many accounts shares is deleted.
#[tokio::test(start_paused = true)]
async fn targets_that_become_unknown_one_after_the_other_lead_to_one_notice_and_one_in_the_next_reconcile() {
    let accounts: Vec<String> = (0..8).map(|n| format!("\"{:012}\"", 500_000_000_000_u64 + n)).collect();
    let accounts = accounts.join(", ");
    let train = Train::with(&TRAIN.replace("\"333333333333\", \"444444444444\"", &accounts));
    let target = |n: u64| format!("{:012}/ap-northeast-1/shop", 500_000_000_000 + n);
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    for n in 0..7 {
        train.report(&target(n), "unknown").await;
    }
    assert_eq!(kinds(&train), ["unknown"]);
    train.reconcile().await;
    train.report(&target(7), "unknown").await;
    train.report(ONE_BOX, "unknown").await;
    assert_eq!(kinds(&train), ["unknown", "unknown", "unknown"], "the other wave has a notice of its own");
    let titles: Vec<String> =
        train.function.account().notices.borrow().iter().map(|notice| notice.title.clone()).collect();
    assert!(titles[1].contains("7 targets are unknown") && titles[2].contains("wave one-box"), "{titles:?}");
    train.reconcile().await;
    train.reconcile().await;
    assert_eq!(kinds(&train).len(), 4);
}

/// Both targets of the wave are unknown, and then one of them answers and becomes unknown again.
#[tokio::test(start_paused = true)]
async fn fewer_unknown_targets_lead_to_no_further_notice() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "unknown").await;
    train.report(TOKYO[1], "unknown").await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown", "unknown"]);
    for _ in 0..3 {
        train.report(TOKYO[0], "running").await;
        train.reconcile().await;
        train.report(TOKYO[0], "unknown").await;
        train.report(TOKYO[1], "running").await;
        train.reconcile().await;
        train.report(TOKYO[1], "unknown").await;
        train.reconcile().await;
    }
    assert_eq!(kinds(&train), ["unknown", "unknown"], "the last notice names both");
    train.report(TOKYO[1], "running").await;
    train.answer(press("accept", &last_code(&train))).await;
    assert_eq!(train.order(WORLD), Some((1, Deploy)), "the other target runs");
    train.report(TOKYO[1], "healthy").await;
    assert_eq!(train.order(WORLD), Some((2, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_is_repeated_after_two_weeks_has_buttons_that_work() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "unknown").await;
    train.wait(Duration::from_hours(14 * 24)).await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown", "unknown"]);
    let codes = train.codes();
    assert_eq!(codes[0], codes[1], "the same event has the same code");
    train.answer(press("accept", &last_code(&train))).await;
    assert_eq!(train.order(TOKYO[0]), Some((2, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_leads_to_a_notice_after_two_hours() {
    let train = Train::new();
    train.push(1).await;
    train.wait(Duration::from_mins(119)).await;
    train.reconcile().await;
    assert_eq!(kinds(&train), [""; 0]);
    train.wait(Duration::from_mins(2)).await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["unknown"]);
    let notice = train.function.account().notices.borrow()[0].clone();
    assert!(notice.lines.contains(&format!("{ONE_BOX}: no report for two hours")), "{notice:?}");
}

#[tokio::test(start_paused = true)]
async fn a_button_about_a_change_that_left_the_wave_is_refused() {
    let train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "unknown").await;
    let code = last_code(&train);
    train.answer(press("accept", &code)).await;
    train.push(3).await;
    train.report(ONE_BOX, "unknown").await;
    for action in ["accept", "rollback"] {
        let (error, message) = train.error(press(action, &code)).await;
        assert_eq!(error, "Refused", "{action}: {message}");
        assert!(message.contains("the notice is about an earlier change"), "{message}");
    }
    assert_eq!(train.order(ONE_BOX), Some((3, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_code_ends_after_two_weeks() {
    let train = Train::new();
    train.answer(about("hold", "tokyo")).await;
    let code = last_code(&train);
    train.wait(Duration::from_hours(14 * 24)).await;
    let (error, message) = train.error(json!({"resume": code})).await;
    assert_eq!(error, "NotFound", "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_the_topic_does_not_take_is_sent_by_a_later_reconcile() {
    let train = Train::new();
    train.function.account().topic_is_down.set(true);
    train.answer(about("hold", "tokyo")).await;
    assert!(train.outcomes().contains(&"failed".to_owned()));
    assert_eq!(kinds(&train), [""; 0]);
    train.function.account().topic_is_down.set(false);
    train.reconcile().await;
    train.reconcile().await;
    assert_eq!(kinds(&train), ["held"]);
}
