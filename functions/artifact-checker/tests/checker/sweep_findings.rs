//! Tests of a sweep's findings about buckets and pipelines, of scheduled sweeps, and of the log of dry runs.

use std::process::Command;
use std::time::Duration;

use artifact_checker::{Cache, Error, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::{Environment, telemetry};

use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, count, filled};
use crate::world::ledger::Faulty;
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, World, foreign, handle, invocation, key, under};

/// Adds buckets with one object under S3's own key.
fn add_buckets(world: &World, names: [&str; 2]) {
    for name in names {
        world.state().buckets.insert(name.to_owned(), Bucket::new(ACCOUNT));
        world.state().put(name, "object", Version::new("hello", Sse::S3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_not_shown_is_a_finding() {
    let world = World::new();
    "999999999999".clone_into(&mut world.state().buckets.get_mut(BUCKET).unwrap().owner);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    let outcomes: Vec<Outcome> = answer.decisions.iter().map(|decision| decision.outcome).collect();
    assert!(outcomes.contains(&Outcome::Unverifiable), "{outcomes:?}");
    assert_eq!(world.state().published.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_sweeps_the_buckets_of_all_pipelines() {
    let world = filled(10, &[(3, under("right"))]);
    add_buckets(&world, ["clear", "unclear"]);
    let (right, other) = (key("right"), key("other"));
    world.declare_pipelines(&[
        ("one", "clear", Some(&other)),
        ("two", "unclear", None),
        ("three", BUCKET, Some(&right)),
    ]);
    let answer = handle(&world.checker_of(Repair::Update, &["clear", "unclear"]), "r", SCHEDULE).await.unwrap();
    let swept: Vec<&str> = answer.sweeps.iter().map(|sweep| sweep.bucket.as_str()).collect();
    assert_eq!(swept, [BUCKET, "clear"]);
    assert_eq!(world.state().bucket("clear").latest("object").unwrap().sse, under("other"));
    // If the right key is unclear, nothing is changed.
    assert_eq!(world.state().bucket("unclear").latest("object").unwrap().sse, Sse::S3);
    let unclear = answer.decisions.iter().find(|decision| decision.outcome == Outcome::Unknown).unwrap();
    assert_eq!(unclear.concerns["bucket"], "unclear");
}

/// The row of the first sweep cannot be written to the ledger.
#[tokio::test(start_paused = true)]
async fn an_error_with_one_bucket_keeps_no_other_bucket_waiting() {
    let world = filled(10, &[(3, under("right"))]);
    add_buckets(&world, ["one", "two"]);
    let other = key("other");
    world.declare_pipelines(&[("one", "one", Some(&other)), ("two", "two", Some(&other))]);
    let checker = world.checker_of(Repair::Update, &["one", "two"]);
    let failing = world.with_ledger(&checker, Faulty { unwritable: "sweep#one", ..Faulty::new(&checker.ledger) });
    let lambda = invocation("r", Duration::from_mins(15));
    let failed = Box::pin(failing.handle(SCHEDULE, &lambda)).await.unwrap_err();
    assert!(matches!(failed, Error::Ledger(_)), "{failed:?}");
    let sse = |bucket: &str| world.state().bucket(bucket).latest("object").unwrap().sse.clone();
    assert_eq!((sse("one"), sse("two")), (Sse::S3, under("other")));
}

/// CodePipeline's console creates artifact buckets, for which the function has no permissions. In an account with such
/// a bucket, every scheduled sweep has this finding.
#[tokio::test(start_paused = true)]
async fn people_get_one_notice_about_a_bucket_that_the_function_may_not_read() {
    let world = filled(10, &[(3, under("right"))]);
    add_buckets(&world, ["closed", "open"]);
    world.state().buckets.get_mut("closed").unwrap().closed = true;
    world.declare_pipelines(&[("one", "closed", None), ("two", "open", Some(&key("other")))]);
    let checker = world.checker_of(Repair::Update, &["closed", "open"]);
    let mut findings = Vec::new();
    for day in 0..60 {
        let answer = handle(&checker, &format!("day{day}"), SCHEDULE).await.unwrap();
        assert_eq!(answer.sweeps.len(), 2, "a bucket with permissions is swept");
        findings.extend(answer.decisions.into_iter().filter(|decision| decision.outcome.is_finding()));
        tokio::time::sleep(Duration::from_hours(24)).await;
    }
    assert_eq!(world.state().bucket("open").latest("object").unwrap().sse, under("other"));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].outcome, Outcome::Unverifiable);
    assert!(findings[0].reason.contains("s3:ListBucket") && findings[0].reason.contains("arn:aws:s3:::closed"));
    assert_eq!(world.state().published.len(), 1);
    // The answer to a person's request contains the reason even if a notice was sent recently.
    let answer = handle(&checker, "asked", r#"{"action":"sweep","bucket":"closed"}"#).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Ignored);
    assert!(answer.decisions[0].reason.contains("arn:aws:s3:::closed"), "{}", answer.decisions[0].reason);
}

#[tokio::test(start_paused = true)]
async fn the_sweeps_of_a_day_send_one_notice_about_a_wrong_key_in_a_pipeline() {
    let world = filled(10, &[(3, under("right"))]);
    world.declare_pipelines(&[("shop", BUCKET, Some("alias/artifacts"))]);
    let mut checker = world.checker(Repair::Update);
    for n in 0..3 {
        checker.cache = Cache::default();
        let answer = handle(&checker, &format!("r{n}"), SWEEP).await.unwrap();
        // The first sweep sends the notice. The later ones leave the finding out, and still say that it is open.
        assert_eq!((answer.decisions[0].outcome, answer.decisions.len() == 2), (Outcome::Reported, n == 0));
        assert!(answer.decisions[0].reason.contains("; other open findings: 1"), "{}", answer.decisions[0].reason);
        assert_eq!(world.state().published.len(), 1, "sweep {n}");
    }
    world.declare_pipelines(&[("shop", BUCKET, Some(&key("right")))]);
    checker.cache = Cache::default();
    let answer = handle(&checker, "mended", SWEEP).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Compliant, "{:?}", answer.decisions);
}

/// Writes the log of a dry run with four findings to standard output.
#[tokio::test(start_paused = true)]
#[ignore = "a_dry_run_raises_no_alarm runs this test in a process of its own and reads its log"]
async fn a_dry_run_with_findings() {
    telemetry::start(&Environment::default());
    let world = filled(10, &[(2, Sse::S3), (2, foreign())]);
    world.state().buckets.get_mut(BUCKET).unwrap().default_key = Some(key("other"));
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP_DRY_RUN).await.unwrap();
    assert_eq!((count(&answer, Outcome::Reported), count(&answer, Outcome::ForeignKey)), (2, 2));
}

/// The alarm for findings counts log lines with the message `decision`, so a dry run must not log this message.
#[test]
fn a_dry_run_raises_no_alarm() {
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweep_findings::a_dry_run_with_findings", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let log = String::from_utf8(test.stdout).unwrap();
    assert!(test.status.success(), "{log}");
    assert_eq!(log.matches(r#""message":"dry run""#).count(), 4, "{log}");
    assert!(!log.contains(r#""message":"decision""#), "{log}");
}
