//! Tests of what a sweep does if CodePipeline does not show every pipeline.

use std::time::Duration;

use artifact_checker::{Cache, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_domain::decision::Decision;

use crate::sweeps::{SCHEDULE, filled};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, key, under};

/// A world with two pipelines, `one` and `two`, that have a bucket of the same name.
fn world_with_two_pipelines() -> World {
    let world = filled(10, &[(3, under("right"))]);
    for name in ["one", "two"] {
        world.state().buckets.insert(name.to_owned(), Bucket::new(ACCOUNT));
        world.state().put(name, "object", Version::new("hello", Sse::S3));
    }
    world.declare_pipelines(&[("one", "one", Some(&key("other"))), ("two", "two", Some(&key("other")))]);
    world
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_not_shown_hides_no_other_bucket_and_is_a_finding() {
    for (code, expected) in [("ThrottlingException", Outcome::Unknown), ("AccessDenied", Outcome::Unverifiable)] {
        let world = world_with_two_pipelines();
        world.script(move |request| {
            let is_hidden = request.operation == "GetPipeline" && request.body.contains("two");
            is_hidden.then(|| Response::json_error(code, "no"))
        });
        let answer = handle(&world.checker_of(Repair::Update, &["one"]), "r", SCHEDULE).await.unwrap();
        let swept: Vec<&str> = answer.sweeps.iter().map(|sweep| sweep.bucket.as_str()).collect();
        assert_eq!(swept, [BUCKET, "one"], "{code}");
        let of_two = |pipeline: &String| pipeline == "two";
        let finding = answer.decisions.iter().find(|one| one.concerns.get("pipeline").is_some_and(of_two)).unwrap();
        assert_eq!(finding.outcome, expected, "{code}");
        assert!(finding.reason.contains(code), "{}", finding.reason);
        assert_eq!(answer.decisions[0].outcome, Outcome::Reported, "{code}");
        assert!(world.state().published.concat().contains(code), "{code}");
        // The bucket is only reported on, because the hidden pipeline may use it under another key.
        let limits = answer.sweeps.iter().map(|sweep| sweep.repairs.unwrap().at_most);
        assert_eq!(limits.collect::<Vec<_>>(), [Some(100_000), None], "{code}");
    }
}

/// People get one notice, and no later answer says that all is well.
#[tokio::test(start_paused = true)]
async fn no_answer_is_compliant_as_long_as_a_pipeline_is_hidden() {
    let world = world_with_two_pipelines();
    world.script(|request| {
        let is_hidden = request.operation == "GetPipeline" && request.body.contains("two");
        is_hidden.then(|| Response::json_error("AccessDenied", "no"))
    });
    let mut checker = world.checker_of(Repair::Update, &["one", "two"]);
    let mut sent = Vec::new();
    for day in 0..4 {
        if day == 3 {
            world.state().script = None;
        }
        checker.cache = Cache::default();
        let answer = handle(&checker, &format!("day-{day}"), SCHEDULE).await.unwrap();
        let summaries = answer.decisions.iter().filter(|one| one.concerns.contains_key("sweep"));
        let outcomes: Vec<Outcome> = summaries.map(|summary| summary.outcome).collect();
        assert!(outcomes.len() > 1, "{:?}", answer.decisions);
        let expected = if day == 3 { Outcome::Compliant } else { Outcome::Reported };
        assert!(outcomes.iter().all(|outcome| *outcome == expected), "day {day}: {:?}", answer.decisions);
        sent.push(world.state().published.len());
        tokio::time::sleep(Duration::from_hours(24)).await;
    }
    assert!(sent[0] > 0 && sent[1..3] == [sent[0]; 2] && sent[3] > sent[0], "{sent:?}");
    assert!(world.state().published[sent[0]].contains("Not found any more"));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_to_codepipeline_is_repeated() {
    let world = world_with_two_pipelines();
    let mut throttled = 0;
    world.script(move |request| {
        throttled += usize::from(request.service == "codepipeline");
        (request.service == "codepipeline" && throttled <= 6)
            .then(|| Response::json_error("ThrottlingException", "Rate exceeded"))
    });
    let answer = handle(&world.checker(Repair::Update), "r", SCHEDULE).await.unwrap();
    assert_eq!(answer.sweeps.len(), 3, "{:?}", answer.decisions);
}

#[tokio::test(start_paused = true)]
async fn if_no_pipeline_is_listed_the_sweep_of_the_own_bucket_says_so() {
    let world = world_with_two_pipelines();
    world.answer_operation("ListPipelines", || Response::json_error("ThrottlingException", "Rate exceeded"));
    let answer = handle(&world.checker(Repair::Update), "r", SCHEDULE).await.unwrap();
    assert_eq!(answer.sweeps.len(), 1);
    assert_eq!(answer.decisions[0].outcome, Outcome::Reported, "{:?}", answer.decisions);
    assert!(answer.decisions.iter().any(|decision| decision.outcome == Outcome::Unknown));
    assert_eq!(world.state().published.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_in_another_region_is_a_finding_that_names_the_bucket_and_a_wrong_key() {
    let right = "arn:aws:kms:us-east-1:222222222222:key/theirs";
    let cases = [
        (Some(right.to_owned()), Outcome::Unverifiable, "deploy the stack in us-east-1"),
        (None, Outcome::Reported, "names no key"),
        (Some("alias/artifacts".to_owned()), Outcome::Reported, "`alias/artifacts`"),
        (Some(key("right")), Outcome::Reported, "a key of another region"),
    ];
    for (name, outcome, part) in cases {
        let world = filled(10, &[(3, under("right"))]);
        let mut pipeline = crate::world::pipeline("shop", BUCKET, Some(&key("right")));
        let here = pipeline.as_object_mut().unwrap().remove("artifactStore").unwrap();
        let mut there = serde_json::json!({"type": "S3", "location": "store-in-virginia"});
        if let Some(name) = name {
            there["encryptionKey"] = serde_json::json!({"id": name, "type": "KMS"});
        }
        pipeline["artifactStores"] = serde_json::json!({"ap-northeast-1": here, "us-east-1": there});
        world.state().pipelines = Some([("shop".to_owned(), pipeline)].into());
        let checker = world.checker(Repair::Update);
        let answer = handle(&checker, "r", SCHEDULE).await.unwrap();
        assert_eq!(answer.sweeps.len(), 1, "the bucket in the other region is not swept");
        let is_about_shop = |one: &&Decision<Outcome>| one.concerns.get("pipeline").is_some_and(|it| it == "shop");
        let finding = answer.decisions.iter().find(is_about_shop).unwrap();
        assert_eq!((finding.outcome, finding.reason.contains(part)), (outcome, true), "{}", finding.reason);
        assert!(finding.reason.contains("store-in-virginia") && finding.reason.contains("us-east-1"));
        // The cached stores have the finding, too, so the finding stays open.
        let answer = handle(&checker, "r2", SCHEDULE).await.unwrap();
        assert!(!answer.decisions.iter().any(|one| is_about_shop(&one)), "{:?}", answer.decisions);
        assert_eq!(answer.decisions[0].outcome, Outcome::Reported, "{}", answer.decisions[0].reason);
        let notices = world.state().published.concat();
        assert!(!notices.contains("Not found any more"), "{notices}");
    }
}
