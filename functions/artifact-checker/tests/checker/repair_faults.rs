//! Repairs after which S3 does not answer, or whose result cannot be read: they count, and are not forgotten.

use std::collections::BTreeMap;

use artifact_checker::{Checker, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::Memory;

use crate::batch::{checker_with_jobs, code, writes};
use crate::objects::{event, only, world_with};
use crate::sweeps::{SWEEP, filled};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Fault, Response, World, handle, key, under};

/// Lets the first requests for this operation fail that follow an update of their object, so many for each object.
fn fail_after_update(world: &World, operation: &'static str, times: usize) {
    let mut left = BTreeMap::new();
    world.script(move |request| {
        if request.operation == "UpdateObjectEncryption" {
            left.entry(request.path.clone()).or_insert(times);
        }
        let left = left.get_mut(&request.path).filter(|left| request.operation == operation && **left > 0)?;
        *left -= 1;
        Some(Response::error(500, "InternalError", "We encountered an error."))
    });
}

/// A key without its grants for the consumer, or an archive, could otherwise lead to a million repairs without a
/// confirmation.
#[tokio::test(start_paused = true)]
async fn a_sweep_keeps_its_limit_if_the_repairs_cannot_be_proven() {
    type Change = fn(&World, &mut Checker<Memory>);
    let cases: [(Outcome, Change); 4] = [
        (Outcome::NeedsRestore, |world, _| {
            for versions in world.state().buckets.get_mut(BUCKET).unwrap().objects.values_mut() {
                versions[0].storage_class = Some("DEEP_ARCHIVE".to_owned());
            }
        }),
        (Outcome::Unverifiable, |world, checker| {
            checker.settings.artifacts.consumer_role = Some("arn:aws:iam::444444444444:role/reader".to_owned());
            world.state().consumer_can_be_assumed = false;
        }),
        (Outcome::Unverifiable, |world, _| {
            world.script(|request| {
                let is_read = request.operation == "GetObject" && !request.path.contains("sekisho-reports/");
                is_read.then(|| Response::error(403, "AccessDenied", "Access Denied"))
            });
        }),
        (Outcome::Unknown, |world, _| fail_after_update(world, "HeadObject", usize::MAX)),
    ];
    for (n, (outcome, change)) in cases.into_iter().enumerate() {
        let world = filled(5, &[(10, under("other"))]);
        let mut checker = checker_with_jobs(&world);
        change(&world, &mut checker);
        let answer = handle(&checker, "r", SWEEP).await.unwrap();
        let report = &answer.sweeps[0];
        assert_eq!((report.outcomes.get(&outcome), report.left, writes(&world)), (Some(&3), 7, 3), "{n}: {report:?}");
        assert!((report.repairs.unwrap().usd - 3.0 * 15.2e-6).abs() < 1e-9, "{n}: {report:?}");
        assert!(!code(&answer).is_empty());
    }
}

/// Whatever answer of S3 is missing, the sweep counts the repair.
#[tokio::test(start_paused = true)]
async fn a_sweep_counts_a_repair_once_whatever_answer_is_missing() {
    for repair in [Repair::Update, Repair::Copy] {
        for fault in [Fault::SlowDown, Fault::Internal, Fault::AnswerLost] {
            for number in 1..20 {
                let world = filled(5, &[(1, under("right")), (1, Sse::S3)]);
                world.state().faults.insert(number, fault);
                let checker = world.checker(repair);
                let report = handle(&checker, "r", SWEEP).await.unwrap().sweeps.pop().unwrap();
                let what = format!("{repair:?}, {fault:?} of request {number}: {report:?}");
                assert_eq!((report.outcomes.get(&Outcome::Repaired), writes(&world)), (Some(&1), 1), "{what}");
                assert!(report.repairs.unwrap().usd > 0.0, "{what}");
            }
        }
    }
}

/// Lambda would repeat the event, and its check would find a compliant object: the pipeline's stage would never be
/// retried.
#[tokio::test(start_paused = true)]
async fn the_check_of_an_event_remembers_its_repair() {
    for operation in ["HeadObject", "GetObject"] {
        let world = world_with(Version::new("hello", under("other")));
        // The SDK makes three attempts.
        fail_after_update(&world, operation, 7);
        let decision = only(handle(&world.checker(Repair::Update), "r", &event("object-created")).await.unwrap());
        assert_eq!((decision.outcome, writes(&world)), (Outcome::Repaired, 1), "{operation}: {}", decision.reason);
        assert_eq!(decision.concerns["encryption"], key("other"), "{operation}");
        // S3 does not answer for long.
        let world = world_with(Version::new("hello", under("other")));
        fail_after_update(&world, operation, usize::MAX);
        handle(&world.checker(Repair::Update), "r", &event("object-created")).await.unwrap_err();
    }
}
