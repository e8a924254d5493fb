//! How a sweep continues over several invocations, and how it respects other invocations.

use std::time::Duration;

use artifact_checker::{Answer, Checker, Error, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::Invocation;
use sekisho_ledger::{Key, Lease, Memory, Store};
use serde_json::json;

use crate::sweeps::{SWEEP, count, filled, object_key};
use crate::world::s3::Sse;
use crate::world::{BUCKET, World, foreign, handle, invocation, now, under};

/// Handles a sweep, and each message of the queue, one after the other. Returns the last answer and the number of
/// invocations.
pub(crate) async fn to_the_end(
    world: &World,
    checker: &Checker<Memory>,
    payload: &str,
    time: Duration,
) -> (Answer, usize) {
    let mut answer = Box::pin(checker.handle(payload, &invocation("r1", time))).await.unwrap();
    for n in 2..1000 {
        let Some(message) = receive(world) else { return (answer, n - 1) };
        answer = deliver(checker, &format!("r{n}"), &message, time).await.unwrap();
    }
    panic!("the sweep never ends")
}

/// Takes the first message out of the queue.
pub(crate) fn receive(world: &World) -> Option<String> {
    let mut state = world.state();
    (!state.queue.is_empty()).then(|| state.queue.remove(0).0)
}

/// Handles a message in the form in which Lambda delivers it.
pub(crate) async fn deliver(
    checker: &Checker<Memory>,
    request_id: &str,
    message: &str,
    time: Duration,
) -> Result<Answer, Error> {
    let attributes = json!({"ApproximateReceiveCount": "1"});
    let record = json!({"messageId": "m", "eventSource": "aws:sqs", "attributes": attributes, "body": message});
    let invocation = Invocation { function: "sekisho-artifact-sweeper".to_owned(), ..invocation(request_id, time) };
    Box::pin(checker.handle(&json!({"Records": [record]}).to_string(), &invocation)).await
}

/// How many HEAD requests the function has sent so far.
fn looks(world: &World) -> usize {
    world.state().operations("s3").iter().filter(|name| *name == "HeadObject").count()
}

#[tokio::test(start_paused = true)]
async fn before_the_time_is_up_the_rest_becomes_a_range() {
    let world = filled(10, &[(400, under("right")), (10, Sse::S3), (4, foreign())]);
    world.state().latency = Duration::from_millis(400);
    let checker = world.checker(Repair::Update);
    let (answer, invocations) = to_the_end(&world, &checker, SWEEP, Duration::from_secs(47)).await;
    assert!(invocations > 2, "{invocations}");
    // The invocation that checks the last range also ends the sweep.
    let [of_range, report] = answer.sweeps.as_slice() else { panic!("{:?}", answer.sweeps) };
    assert!(of_range.complete && report.complete);
    assert_eq!((of_range.range, report.range), (Some(0), None));
    assert_eq!((report.objects, report.sweep.as_str()), (414, "r1"));
    assert_eq!(report.outcomes[&Outcome::Repaired], 10);
    assert_eq!(answer.decisions.len(), 1 + 1 + 4);
    assert_eq!(world.state().published.len(), 1);
    // A second delivery of the request to continue does not begin another sweep.
    let again = format!(r#"{{"action":"sweep","bucket":"{BUCKET}","sweep":"r1"}}"#);
    let answer = handle(&checker, "again", &again).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Ignored);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_whose_invocation_dies_continues_at_its_position() {
    let world = filled(100, &[(4000, under("right")), (5, Sse::S3)]);
    world.state().latency = Duration::from_secs(1);
    let checker = world.checker(Repair::Copy);
    let killed = tokio::time::timeout(Duration::from_secs(30), handle(&checker, "r", SWEEP)).await;
    assert!(killed.is_err());
    // While the invocation may be alive, no other invocation may continue.
    let other = handle(&checker, "other", SWEEP).await.unwrap();
    assert_eq!(other.decisions[0].outcome, Outcome::Ignored, "{}", other.decisions[0].reason);
    assert_eq!(other.sweeps.len(), 0);
    let before = looks(&world);
    assert!(before > 500, "{before}");
    // The retry by Lambda has the request id of the dead invocation. It begins after the end of the lease, so any
    // invocation may continue the sweep.
    tokio::time::sleep(Duration::from_mins(2)).await;
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].objects, count(&answer, Outcome::Repaired)), (4005, 5));
    let all = looks(&world);
    // The retry checks again the pages that were not finished (at most eight), and repeats the work of the up to five
    // seconds since the position was last saved.
    assert!(all < 4005 + 5 * 3 + 8 * 100 + 5 * 100, "{all}");
    assert!(all < 4005 + before, "the sweep began again: {all}");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_without_progress_fails_and_does_not_continue() {
    let world = filled(10, &[(3, under("right"))]);
    world.state().latency = Duration::from_mins(2);
    let checker = world.checker(Repair::Update);
    let invocation = invocation("r", Duration::from_mins(1));
    let answer = Box::pin(checker.handle(SWEEP, &invocation)).await;
    assert!(matches!(answer, Err(Error::Sweep(_) | Error::Service(_))), "{answer:?}");
    assert_eq!(world.state().queue, []);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_another_invocation_repairs_is_no_finding() {
    for (time, outcome) in [(Duration::from_mins(15), Outcome::Repaired), (Duration::from_mins(2), Outcome::Ignored)] {
        let world = filled(10, &[(3, under("right")), (1, Sse::S3)]);
        let checker = world.checker(Repair::Copy);
        // The other invocation has died, but its claim lasts for five minutes.
        let key = Key::state(format!("repair#{BUCKET}#{}", object_key(3)));
        let until = Lease::new(now(), Duration::from_mins(5));
        let claim = json!({"copies": 0, "version": "", "updates": 0, "last": 0, "until": until, "holder": "dead",
            "expires": 4_102_444_800_u64});
        checker.ledger.write(&key, &claim, None, "dead").await.unwrap();
        let answer = Box::pin(checker.handle(SWEEP, &invocation("r", time))).await.unwrap();
        assert!(answer.sweeps[0].complete);
        assert_eq!((count(&answer, outcome), count(&answer, Outcome::Unknown)), (1, 0), "{:?}", answer.decisions);
        let expected = if outcome == Outcome::Ignored { Outcome::Unknown } else { Outcome::Compliant };
        assert_eq!(answer.decisions[0].outcome, expected, "{}", answer.decisions[0].reason);
        assert_eq!(world.state().published, Vec::<String>::new());
    }
}
