//! Sweeps: what a sweep checks, repairs, reports and estimates.

use std::time::Duration;

use artifact_checker::{Answer, Outcome};
use sekisho_domain::artifacts::Repair;

use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Fault, Response, World, foreign, handle, under};

pub(crate) const SWEEP: &str = include_str!("../../../../events/artifact-checker/sweep.json");
pub(crate) const SWEEP_VERSIONS: &str = include_str!("../../../../events/artifact-checker/sweep-versions.json");
pub(crate) const SWEEP_DRY_RUN: &str = include_str!("../../../../events/artifact-checker/sweep-dry-run.json");
pub(crate) const SCHEDULE: &str = include_str!("../../../../events/artifact-checker/schedule.json");

/// A world whose bucket has the given number of objects under each encryption. A page of the bucket's listing has
/// `page` objects.
pub(crate) fn filled(page: usize, objects: &[(usize, Sse)]) -> World {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(page));
    let mut n = 0;
    for (count, sse) in objects {
        for _ in 0..*count {
            let version = Version::new(&format!("content {n}"), sse.clone());
            world.state().put(BUCKET, &object_key(n), version);
            n += 1;
        }
    }
    world
}

/// The key of the object with this number, counted from 0.
pub(crate) fn object_key(n: usize) -> String {
    format!("shop/a b+{n:05}é")
}

/// How many objects have this outcome.
pub(crate) fn count(answer: &Answer, outcome: Outcome) -> u64 {
    answer.sweeps.iter().map(|sweep| sweep.outcomes.get(&outcome).copied().unwrap_or(0)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_sweep_repairs_what_it_can_and_names_the_other_findings() {
    let world = filled(10, &[(25, under("right")), (7, Sse::S3), (5, under("other")), (3, foreign())]);
    let checker = world.checker(Repair::Update);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    let report = &answer.sweeps[0];
    assert!(report.complete);
    assert_eq!((report.objects, report.more_findings), (40, 0));
    assert_eq!(count(&answer, Outcome::Compliant), 25);
    assert_eq!(count(&answer, Outcome::Repaired), 12);
    assert_eq!(count(&answer, Outcome::ForeignKey), 3);
    // One object of each page and every repaired object is read.
    assert!(report.proven >= 12 + 3 && report.proven < 25, "{}", report.proven);
    assert_eq!(answer.decisions.len(), 1 + 3);
    let [summary, finding, ..] = answer.decisions.as_slice() else { panic!("{:?}", answer.decisions) };
    assert_eq!((summary.outcome, summary.concerns["sweep"].as_str()), (Outcome::Reported, "r"));
    assert!(summary.reason.contains("40 objects: 25 compliant, 12 repaired, 3 foreign-key"), "{}", summary.reason);
    assert!(finding.concerns["writer"].contains("account 111111111111"));
    assert_eq!(world.state().published.len(), 1);
    assert!(world.state().published[0].contains("account 111111111111"));
    // A second sweep has nothing to repair.
    let answer = handle(&checker, "r2", SWEEP).await.unwrap();
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::ForeignKey)), (37, 3));
    assert_eq!(world.state().bucket(BUCKET).writes, 12);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_and_estimates_the_requests_of_the_sweep() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = filled(10, &[(15, under("right")), (7, Sse::S3), (5, under("other")), (3, foreign())]);
        let checker = world.checker(repair);
        let before = world.state().bucket(BUCKET).clone();
        let answer = handle(&checker, "dry", SWEEP_DRY_RUN).await.unwrap();
        let estimate = answer.sweeps[0].estimate.unwrap();
        assert_eq!(count(&answer, Outcome::Reported), 12);
        assert_eq!(world.state().bucket(BUCKET).objects, before.objects);
        assert_eq!(world.state().published, Vec::<String>::new());
        world.state().requests.clear();
        let answer = handle(&checker, "wet", SWEEP).await.unwrap();
        assert_eq!(count(&answer, Outcome::Repaired), 12);
        let operations = world.state().operations("s3");
        let of = |names: &[&str]| operations.iter().filter(|name| names.contains(&name.as_str())).count() as u64;
        assert_eq!(of(&["ListObjectsV2", "CopyObject", "UpdateObjectEncryption"]), estimate.writes_and_lists);
        assert_eq!(of(&["HeadObject", "GetObject"]), estimate.reads, "{repair:?}");
        assert_eq!(estimate.kms, 3 * 12);
        let of_s3 = estimate.writes_and_lists as f64 * 5.0 + estimate.reads as f64 * 0.4;
        let usd = (of_s3 + estimate.kms as f64 * 3.0) / 1e6;
        assert!((estimate.usd - usd).abs() < 1e-12);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_hundred_findings_are_named_and_the_others_counted() {
    let world = filled(50, &[(130, foreign())]);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!(answer.decisions.len(), 1 + 100);
    assert_eq!(answer.sweeps[0].more_findings, 30);
    assert!(world.state().published[0].contains("and 30 more"));
}

#[tokio::test(start_paused = true)]
async fn all_versions_are_updated_but_only_the_latest_is_copied() {
    for (repair, repaired, reported) in [(Repair::Update, 4, 0), (Repair::Copy, 2, 2)] {
        let world = filled(2, &[]);
        for object in ["a", "b"] {
            for content in ["old", "new"] {
                world.state().put(BUCKET, object, Version::new(content, Sse::S3));
            }
        }
        world.state().put(BUCKET, "c", Version::new("deleted", under("right")));
        world.state().put(BUCKET, "c", Version { delete_marker: true, ..Version::new("", Sse::S3) });
        let answer = handle(&world.checker(repair), "r", SWEEP_VERSIONS).await.unwrap();
        assert_eq!(answer.sweeps[0].objects, 5);
        assert_eq!(count(&answer, Outcome::Repaired), repaired, "{repair:?}");
        assert_eq!(count(&answer, Outcome::Reported), reported, "{repair:?}");
        for object in ["a", "b"] {
            assert_eq!(world.state().bucket(BUCKET).latest(object).unwrap().content, "new");
        }
        assert!(world.state().bucket(BUCKET).latest("c").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_sweep_slows_down_and_checks_every_object() {
    let world = filled(100, &[(1500, under("right")), (20, Sse::S3)]);
    world.state().latency = Duration::from_millis(10);
    world.state().faults = (50..400).map(|n| (n, Fault::SlowDown)).collect();
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!(answer.sweeps[0].objects, 1520);
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::Repaired)), (1500, 20));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_s3_never_answers_about_is_unknown_and_the_others_are_checked() {
    let world = filled(10, &[(30, under("right"))]);
    world.script(|request| {
        let broken = || Response::error(500, "InternalError", "We encountered an error.");
        (request.operation == "HeadObject" && request.path.contains("00007")).then(broken)
    });
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::Unknown)), (29, 1));
    let operations = world.state().requests.iter().filter(|request| request.path.contains("00007")).count();
    assert_eq!(operations, 8);
}
