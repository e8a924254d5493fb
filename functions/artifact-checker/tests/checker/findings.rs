//! Tests of findings about buckets and pipelines, of their notices, and of the explanation of foreign keys.

use std::time::Duration;

use artifact_checker::{Cache, Checker, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Memory;

use crate::objects::{OBJECT, event, only, world_with};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, created, foreign, handle, key, under};

#[tokio::test(start_paused = true)]
async fn a_wrong_key_in_a_pipeline_is_a_finding_of_its_own_and_sent_once() {
    let world = world_with(Version::new("hello", under("other")));
    world.declare_pipelines(&[("shop", BUCKET, Some("alias/artifacts"))]);
    world.state().buckets.get_mut(BUCKET).unwrap().default_key = Some(key("other"));
    let checker = world.checker(Repair::Copy);
    let answer = handle(&checker, "r", &event("object-created")).await.unwrap();
    let outcomes: Vec<Outcome> = answer.decisions.iter().map(|decision| decision.outcome).collect();
    assert_eq!(outcomes, [Outcome::Reported, Outcome::Reported, Outcome::Repaired]);
    let [of_pipeline, of_bucket, _] = answer.decisions.as_slice() else { panic!("{:?}", answer.decisions) };
    assert_eq!(of_pipeline.concerns["pipeline"], "shop");
    assert!(!of_bucket.concerns.contains_key("pipeline"));
    assert!(of_bucket.reason.contains(&key("other")), "{}", of_bucket.reason);
    assert_eq!(world.state().published.len(), 1);
    only(handle(&checker, "r2", &event("object-created")).await.unwrap());
    assert_eq!(world.state().published.len(), 1);
}

/// A cold start must not repeat a notice, and a notice that SNS refuses must not be lost.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_in_a_pipeline_is_sent_once_after_sns_has_accepted_the_notice() {
    let world = World::new();
    world.declare_pipelines(&[("shop", BUCKET, Some("alias/artifacts"))]);
    let mut checker = world.checker(Repair::Copy);
    let mut n = 0;
    let mut next = |checker: &mut Checker<Memory>| {
        n += 1;
        checker.cache = Cache::default();
        let id = world.state().put(BUCKET, OBJECT, Version::new("hello", Sse::S3));
        (format!("r{n}"), created(BUCKET, OBJECT, Some(&id)))
    };
    world.answer_every("sns", || {
        Response::new(400).body("<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>")
    });
    let (id, payload) = next(&mut checker);
    handle(&checker, &id, &payload).await.unwrap_err();
    world.state().script = None;
    for wait in [0, 1, 22, 2, 24 * 30] {
        tokio::time::sleep(Duration::from_hours(wait)).await;
        let (id, payload) = next(&mut checker);
        handle(&checker, &id, &payload).await.unwrap();
        assert_eq!(world.state().published.len(), 1, "after {wait} h");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_key_is_explained() {
    let world = world_with(Version::new("hello", foreign()));
    world.declare_pipelines(&[("shop", BUCKET, None)]);
    let action = serde_json::json!({
        "pipelineExecutionId": "3137f7cb-7cf7-4abc-bb4b-d7e6a5f4a3b2", "actionName": "Source",
        "output": {"outputArtifacts": [{"name": "SourceArtifact", "s3location": {"bucket": BUCKET, "key": OBJECT}}]},
    });
    world.state().actions.insert("shop".to_owned(), vec![action]);
    let answer = handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap();
    let finding = answer.decisions.last().unwrap();
    assert_eq!(finding.outcome, Outcome::ForeignKey);
    let about = |name: &str| finding.concerns[name].as_str();
    assert_eq!(about("writer"), "111111111111");
    assert_eq!((about("pipeline"), about("action")), ("shop", "Source"));
    assert_eq!(about("execution"), "3137f7cb-7cf7-4abc-bb4b-d7e6a5f4a3b2");
    assert!(about("encryption").contains(":111111111111:key/theirs"));
    assert!(about("likely_cause").contains("pipeline shop") && about("likely_cause").contains(&key("right")));
    let notice = world.state().published.join("\n");
    for part in ["foreign-key", OBJECT, "3137f7cb", "likely cause"] {
        assert!(notice.contains(part), "{notice}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_consumers_role_proves_that_an_object_can_be_read() {
    const ROLE: &str = "arn:aws:iam::222222222222:role/build";
    let world = world_with(Version::new("hello", under("right")));
    let mut checker = world.checker(Repair::Copy);
    checker.settings.artifacts.consumer_role = Some(ROLE.to_owned());
    assert_eq!(only(handle(&checker, "r", &event("object-created")).await.unwrap()).outcome, Outcome::Compliant);
    world.state().not_for_consumer.insert(key("right"));
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unverifiable);
    assert!(decision.reason.contains(ROLE), "{}", decision.reason);
    world.state().consumer_can_be_assumed = false;
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unverifiable);
    let parts = [ROLE, "sts:AssumeRole", "parameter ArtifactConsumerRoleArn"];
    assert!(parts.iter().all(|part| decision.reason.contains(part)), "{}", decision.reason);
    world.script(|request| (request.service == "sts").then(|| Response::new(200).body("<AssumeRoleResponse/>")));
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert!(decision.reason.contains("the answer of STS contains no credentials"), "{}", decision.reason);
    let throttled =
        "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
    world.script(move |request| (request.service == "sts").then(|| Response::new(400).body(throttled)));
    let error = handle(&checker, "r", &event("object-created")).await.unwrap_err();
    let error = chain(&error);
    assert!(error.contains("sts:AssumeRole failed") && error.contains("Rate exceeded"), "{error}");
}
