//! Sweeps of several modes: each has a row of its own, so that none replaces another one.

use std::collections::BTreeMap;
use std::time::Duration;

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::{Key, Store};
use serde_json::json;

use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP_DRY_RUN, SWEEP_VERSIONS, filled, object_key};
use crate::world::{BUCKET, handle, invocation, under};

#[tokio::test(start_paused = true)]
async fn the_daily_sweep_does_not_replace_a_sweep_of_another_mode() {
    for payload in [SWEEP_VERSIONS, SWEEP_DRY_RUN] {
        let world = filled(10, &[(400, under("right"))]);
        world.state().latency = Duration::from_millis(400);
        let checker = world.checker(Repair::Update);
        let answer = Box::pin(checker.handle(payload, &invocation("first", Duration::from_secs(47)))).await.unwrap();
        assert!(!answer.sweeps[0].complete);
        let next = receive(&world).unwrap();
        let daily = handle(&checker, "daily", SCHEDULE).await.unwrap();
        // Beside another sweep, the daily one leaves everything to the queue.
        assert_eq!((daily.sweeps[0].complete, daily.sweeps[0].objects), (false, 0), "{:?}", daily.decisions);
        // The schedule sends the message of the unfinished sweep again, because the first one may be lost.
        assert_eq!(receive(&world).unwrap(), next);
        let (mut message, mut ended, mut ids) = (Some(next), BTreeMap::new(), 1..);
        while let Some(body) = message {
            let request_id = format!("r{}", ids.next().unwrap());
            let answer = deliver(&checker, &request_id, &body, Duration::from_mins(5)).await.unwrap();
            ended.extend(answer.sweeps.into_iter().filter(|one| one.complete).map(|one| (one.sweep, one.objects)));
            message = receive(&world);
        }
        assert_eq!(ended, BTreeMap::from([("daily".to_owned(), 400), ("first".to_owned(), 400)]));
    }
}

/// An earlier version kept the sweeps of all modes in one row, and such a sweep may be unfinished at an upgrade.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_an_earlier_version_began_continues_in_its_own_row() {
    let before = json!({
        "sweep": "first", "versions": true, "dry_run": false, "started": "2026-11-21T23:45:00Z",
        "position": {"key": object_key(29), "version": null}, "complete": false, "holder": "first", "until": 0,
        "totals": {"objects": 30, "proven": 3, "outcomes": {"compliant": 30},
            "checks": {"writes_and_lists": 3, "reads": 33}, "repairs": {"writes_and_lists": 0, "reads": 0},
            "more_findings": 0, "findings": []},
        "expires": 4_102_444_800_u64,
    });
    let next = format!(r#"{{"action":"sweep","bucket":"{BUCKET}","versions":true,"sweep":"first"}}"#);
    for is_daily_first in [false, true] {
        let world = filled(10, &[(100, under("right"))]);
        let checker = world.checker(Repair::Update);
        checker.ledger.write(&Key::state(format!("sweep#{BUCKET}")), &before, None, "first").await.unwrap();
        if is_daily_first {
            let daily = handle(&checker, "daily", SCHEDULE).await.unwrap();
            assert_eq!((daily.sweeps[0].sweep.as_str(), daily.sweeps[0].objects), ("daily", 100));
        }
        let answer = handle(&checker, "second", &next).await.unwrap();
        assert_eq!(answer.sweeps.len(), 1, "{:?}", answer.decisions);
        let report = &answer.sweeps[0];
        assert_eq!((report.sweep.as_str(), report.complete, report.objects), ("first", true, 100));
        // A second delivery of the request does nothing, and the daily sweep still begins.
        let again = handle(&checker, "again", &next).await.unwrap();
        assert_eq!(again.decisions[0].outcome, Outcome::Ignored);
        let daily = handle(&checker, "daily2", SCHEDULE).await.unwrap();
        assert_eq!((daily.sweeps[0].sweep.as_str(), daily.sweeps[0].objects), ("daily2", 100));
    }
}
