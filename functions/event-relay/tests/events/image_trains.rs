//! Images in a route with waves, and images that are deleted while their change is under way.

use std::time::Duration;

use sekisho_domain::order::OrderKind::{Deploy, Rollback};
use sekisho_lambda::service_error::Kind;
use serde_json::json;

use crate::images::{archive, delete, digest, image, push, pushed};
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD, about, request};

/// The route [`TRAIN`] for all images of `shop`.
fn config() -> String {
    TRAIN
        .replace("repository = \"shop\"", "image = \"shop\"")
        .replace("branches = [\"main\", \"hotfix\"]", "tags = [\"**\"]")
}

async fn train() -> Train {
    let train = Train::with(&config());
    train.function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    train.reconcile().await;
    train.function.calls();
    train
}

/// Pushes the n-th image under a tag of its own.
async fn arrive(train: &Train, n: u64) {
    train.wait(Duration::from_secs(1)).await;
    push(&train.function, image(n, &[&format!("v{n}")]));
    train.function.handle(&pushed(&format!("v{n}"))).await.unwrap();
}

async fn healthy_everywhere(train: &Train, n: u64) {
    arrive(train, n).await;
    for target in [ONE_BOX, TOKYO[0], TOKYO[1], WORLD] {
        assert_eq!(train.order(target), Some((n, Deploy)), "{target}");
        train.report(target, "healthy").await;
    }
}

/// The reads of images since the test last called this function.
fn reads(train: &Train) -> Vec<String> {
    train.function.calls().into_iter().filter(|call| call.starts_with("Describe")).collect()
}

/// The reasons of the stored decisions with this outcome.
fn reasons(train: &Train, outcome: &str) -> Vec<String> {
    let decisions = train.function.stored_decisions().into_iter().filter(|one| one["outcome"] == outcome);
    decisions.map(|one| one["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_image_is_read_once_when_it_arrives_and_once_for_each_further_wave() {
    let train = train().await;
    arrive(&train, 1).await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    assert_eq!(reads(&train), ["DescribeImages shop v1"]);
    train.report(ONE_BOX, "running").await;
    assert_eq!(reads(&train), [""; 0]);
    train.report(ONE_BOX, "healthy").await;
    assert_eq!((train.order(TOKYO[0]), train.order(TOKYO[1])), (Some((1, Deploy)), Some((1, Deploy))));
    assert_eq!(reads(&train), [format!("DescribeImages shop {}", digest(1))]);
    train.report(TOKYO[0], "healthy").await;
    assert_eq!(reads(&train), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_deleted_enters_no_further_wave_and_the_next_one_passes_it() {
    for remove in [delete, archive] {
        let train = train().await;
        arrive(&train, 1).await;
        remove(&train.function, 1);
        train.report(ONE_BOX, "healthy").await;
        assert_eq!(train.order(TOKYO[0]), None);
        let failed = reasons(&train, "failed");
        assert!(failed.len() == 1 && failed[0].contains("deleted or archived"), "{failed:?}");
        assert_eq!((train.row().condemned.len(), train.codes().len()), (0, 0), "the change is not condemned");
        reads(&train);
        train.reconcile().await;
        assert_eq!((reads(&train), reasons(&train, "failed").len()), (vec!["DescribeImages shop".to_owned()], 1));
        healthy_everywhere(&train, 2).await;
        assert_eq!(reasons(&train, "failed").len(), 1);
    }
}

/// A wave takes one target after the other, and the image is deleted in between.
#[tokio::test(start_paused = true)]
async fn a_wave_ends_if_its_image_is_deleted_before_all_targets_have_it() {
    let train = Train::with(&config().replace("name = \"tokyo\"", "name = \"tokyo\"\nat_once = 1"));
    train.function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    arrive(&train, 1).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!((train.order(TOKYO[0]), train.order(TOKYO[1])), (Some((1, Deploy)), None));
    delete(&train.function, 1);
    train.report(TOKYO[0], "healthy").await;
    assert_eq!((train.order(TOKYO[0]), train.order(TOKYO[1]), train.order(WORLD)), (Some((1, Deploy)), None, None));
    assert_eq!((train.row().condemned.len(), reasons(&train, "failed").len()), (0, 1));
    arrive(&train, 2).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.order(TOKYO[0]), Some((2, Deploy)), "the wave is free");
}

#[tokio::test(start_paused = true)]
async fn a_person_promotes_an_image_that_was_restored() {
    let train = train().await;
    arrive(&train, 1).await;
    delete(&train.function, 1);
    train.report(ONE_BOX, "healthy").await;
    let promote = request("promote", json!({"wave": "tokyo", "revision": digest(1), "reason": "it is back"}));
    let answer = train.answer(promote.clone()).await;
    assert!(answer.contains("was deleted or archived"), "{answer}");
    assert_eq!((train.order(TOKYO[0]), train.row().waves[1].promotion), (None, None));
    push(&train.function, image(1, &[]));
    let answer = train.answer(promote).await;
    assert!(answer.starts_with("000000000000 v1 enters tokyo of shop"), "{answer}");
    assert_eq!(train.order(TOKYO[0]), Some((1, Deploy)));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_pushed_again_under_another_tag_is_a_new_change() {
    let train = train().await;
    arrive(&train, 1).await;
    delete(&train.function, 1);
    train.report(ONE_BOX, "healthy").await;
    push(&train.function, image(1, &["again"]));
    train.function.handle(&pushed("again")).await.unwrap();
    assert_eq!(train.order(TOKYO[0]), Some((1, Deploy)));
    assert!(train.row().gone.is_empty());
}

#[tokio::test(start_paused = true)]
async fn targets_stay_as_they_are_if_the_image_to_go_back_to_was_deleted() {
    let train = train().await;
    healthy_everywhere(&train, 1).await;
    arrive(&train, 2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "healthy").await;
    delete(&train.function, 1);
    reads(&train);
    train.report(TOKYO[1], "rolled-back").await;
    assert_eq!(train.order(TOKYO[0]), Some((2, Deploy)));
    assert_eq!(reads(&train), [format!("DescribeImages shop {}", digest(1))]);
    let failed = reasons(&train, "failed");
    assert!(failed.len() == 1 && failed[0].contains("deleted or archived"), "{failed:?}");
    let notice = train.function.account().notices.borrow()[0].clone();
    assert_eq!(notice.title, "shop: 000000000000 is condemned");
    let line = format!("{} stays as it is: 000000000000 v1", TOKYO[0]);
    assert!(notice.lines.iter().any(|one| one.starts_with(&line)), "{:?}", notice.lines);
    train.reconcile().await;
    assert_eq!(reasons(&train, "failed").len(), 1, "the failure is reported once");
    arrive(&train, 3).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.order(TOKYO[0]), Some((3, Deploy)), "the next change enters");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_a_person_says_which_image_is_gone() {
    for remove in [delete, archive] {
        let train = train().await;
        healthy_everywhere(&train, 1).await;
        healthy_everywhere(&train, 2).await;
        remove(&train.function, 1);
        let answer = train.answer(about("rollback", "tokyo")).await;
        assert!(answer.contains("was deleted or archived"), "{answer}");
        assert_eq!(train.order(TOKYO[0]), Some((2, Deploy)));
        // The image is restored.
        delete(&train.function, 1);
        push(&train.function, image(1, &["v1"]));
        train.answer(about("rollback", "tokyo")).await;
        assert_eq!(train.order(TOKYO[0]), Some((1, Rollback)));
    }
}

/// Nothing keeps a target from going back: the target's source action fails if the image is gone.
#[tokio::test(start_paused = true)]
async fn a_failure_of_ecr_keeps_no_target_from_going_back() {
    let train = train().await;
    healthy_everywhere(&train, 1).await;
    arrive(&train, 2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "healthy").await;
    train.function.account().ecr_fails.set(Some(Kind::Throttled));
    train.report(TOKYO[1], "rolled-back").await;
    assert_eq!(train.order(TOKYO[0]), Some((1, Rollback)));
}

#[tokio::test(start_paused = true)]
async fn a_tag_narrows_a_request() {
    let train = train().await;
    arrive(&train, 1).await;
    let text = train.answer(request("train", json!({"ref": "v1"}))).await;
    assert!(text.contains("the newest change is 000000000000 v1"), "{text}");
    let (error, message) =
        train.error(request("promote", json!({"wave": "tokyo", "revision": "123", "reason": "x"}))).await;
    assert_eq!(error, "InvalidRequest", "{message}");
}
