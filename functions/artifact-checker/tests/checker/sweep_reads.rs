//! Which objects a sweep reads, and how fast a sweep is, because KMS and S3 serve pipelines at the same time.

use std::time::Duration;

use artifact_checker::{Outcome, Rates};
use sekisho_domain::artifacts::Repair;
use tokio::time::Instant;

use crate::sweep_progress::to_the_end;
use crate::sweeps::{SWEEP, count, filled};
use crate::world::s3::Sse;
use crate::world::{BUCKET, Response, World, handle, under};

/// How many objects the function has read so far.
fn reads(world: &World) -> usize {
    world.state().operations("s3").iter().filter(|name| *name == "GetObject").count()
}

#[tokio::test(start_paused = true)]
async fn after_a_streak_of_failed_reads_the_other_objects_get_the_same_verdict_unread() {
    let world = filled(100, &[(5000, under("right"))]);
    world.state().buckets.get_mut(BUCKET).unwrap().reads_denied = true;
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    let unverifiable = count(&answer, Outcome::Unverifiable);
    assert!(unverifiable > 4900, "{:?}", answer.sweeps[0].outcomes);
    // 20 for the streak, the first object of each of 50 pages, and one of 50 objects.
    assert!(reads(&world) <= 20 + 50 + 100, "{}", reads(&world));
    let shared = answer.decisions.last().unwrap();
    assert!(shared.reason.contains("the last 20 reads") && shared.reason.contains("AccessDenied"), "{}", shared.reason);
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_object_does_not_decide_about_the_others() {
    let world = filled(100, &[(1000, under("right"))]);
    world.script(|request| {
        let is_broken = request.operation == "GetObject" && request.path.contains("00300");
        is_broken.then(|| Response::error(403, "AccessDenied", "Access Denied"))
    });
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!((count(&answer, Outcome::Unverifiable), count(&answer, Outcome::Compliant)), (1, 999));
    assert!(reads(&world) <= 10 + 20, "{}", reads(&world));
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_continues_the_sweep_inherits_the_result_of_the_reads() {
    let world = filled(100, &[(3000, under("right"))]);
    world.state().buckets.get_mut(BUCKET).unwrap().reads_denied = true;
    world.state().latency = Duration::from_secs(1);
    let (answer, invocations) =
        to_the_end(&world, &world.checker(Repair::Update), SWEEP, Duration::from_secs(50)).await;
    assert!(invocations > 2, "{invocations}");
    let report = answer.sweeps.last().unwrap();
    assert!(report.outcomes[&Outcome::Unverifiable] > 2700, "{:?}", report.outcomes);
    // The pages that an invocation did not finish are checked again, so their first objects are read again.
    assert!(reads(&world) <= 20 + 60 + 30 + 8 * invocations, "{} in {invocations} invocations", reads(&world));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_half_of_the_rates_of_s3_and_kms_to_others() {
    // A repair takes about four requests to KMS.
    let cases = [(under("right"), 3_000, 3_000.0 / 2_667.0), (Sse::S3, 500, 4.0 * 500.0 / 2_667.0)];
    for (sse, objects, seconds) in cases {
        let world = filled(500, &[(objects, sse.clone())]);
        let mut checker = world.checker(Repair::Update);
        let start = Instant::now();
        let answer = handle(&checker, "r", SWEEP).await.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert_eq!(answer.sweeps[0].objects, objects as u64);
        assert!(
            (seconds - 0.2..seconds + 0.2).contains(&took),
            "{sse:?}: {took} s, and {seconds} s at half of the rate"
        );
        checker.settings.rates = Rates::UNLIMITED;
        let start = Instant::now();
        handle(&checker, "r2", SWEEP).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(100));
    }
}
