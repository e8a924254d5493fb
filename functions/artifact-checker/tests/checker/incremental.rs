//! Incremental sweeps, which leave out what was not written since the last sweep.

use std::collections::BTreeMap;
use std::time::Duration;

use artifact_checker::{Checker, KeyArn, Outcome, Rates, SweepReport};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::Memory;

use crate::ranges::{LONG, at_once, report_of};
use crate::retries;
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_VERSIONS, filled, object_key};
use crate::world::ledger::Faulty;
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, foreign, handle, invocation, key, now, under};

const DAY: Duration = Duration::from_hours(24);

/// A bucket with so many objects under the right key, of which pages of 100 are listed, three days after they were
/// written.
async fn three_days_old(objects: usize) -> World {
    let world = filled(100, &[]);
    for n in 0..objects {
        write(&world, n, under("right"));
    }
    tokio::time::sleep(3 * DAY).await;
    world
}

/// Writes an object. The event about it is lost.
fn write(world: &World, n: usize, sse: Sse) {
    let version = Version { written: Some(now()), ..Version::new(&format!("content {n}"), sse) };
    world.state().put(BUCKET, &object_key(n), version);
}

async fn daily(checker: &Checker<Memory>, day: usize) -> SweepReport {
    let answer = handle(checker, &format!("day-{day}"), SCHEDULE).await.unwrap();
    tokio::time::sleep(DAY).await;
    answer.sweeps.into_iter().next().unwrap()
}

/// Puts the latest version of an object under another key, as `UpdateObjectEncryption` does: S3 sends no event, and the
/// time of the last change stays.
fn change_in_place(world: &World, n: usize, sse: Sse) {
    let mut state = world.state();
    let versions = state.buckets.get_mut(BUCKET).unwrap().objects.get_mut(&object_key(n)).unwrap();
    versions.last_mut().unwrap().sse = sse;
}

#[tokio::test(start_paused = true)]
async fn the_daily_sweep_is_incremental_and_complete_once_a_week() {
    let world = three_days_old(500).await;
    let checker = world.checker(Repair::Update);
    let mut complete = Vec::new();
    for day in 0..15 {
        let before = world.state().operations("s3").iter().filter(|name| *name == "HeadObject").count();
        let report = daily(&checker, day).await;
        let heads = world.state().operations("s3").iter().filter(|name| *name == "HeadObject").count() - before;
        assert_eq!(report.objects + report.unchanged, 500);
        if report.incremental {
            // The first object of each page shows that the right key works.
            assert_eq!((report.objects, report.proven, heads), (5, 5, 5));
        } else {
            assert_eq!((report.objects, heads), (500, 500));
            complete.push(day);
        }
    }
    assert_eq!(complete, [0, 7, 14]);
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_checks_what_was_written_and_what_has_a_finding() {
    let world = three_days_old(300).await;
    change_in_place(&world, 250, foreign());
    let checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    write(&world, 150, Sse::S3);
    change_in_place(&world, 50, Sse::S3);
    let report = daily(&checker, 1).await;
    assert!(report.incremental);
    // The list of the first sweep makes a fourth page.
    assert_eq!((report.objects, report.unchanged), (4 + 2, 294));
    assert_eq!((report.outcomes[&Outcome::Repaired], report.findings["open"]), (1, 1));
    assert_eq!(world.state().bucket(BUCKET).latest(&object_key(150)).unwrap().sse, under("right"));
    // The key of this object was changed in place, which only a complete sweep sees.
    assert_eq!(world.state().bucket(BUCKET).latest(&object_key(50)).unwrap().sse, Sse::S3);
    change_in_place(&world, 250, under("right"));
    let report = daily(&checker, 2).await;
    assert_eq!((report.incremental, report.findings.get("resolved")), (true, Some(&1)));
    let answer = handle(&checker, "person", SWEEP).await.unwrap();
    let report = &answer.sweeps[0];
    assert_eq!((report.incremental, report.objects, report.outcomes[&Outcome::Repaired]), (false, 300, 1));
    assert!(answer.decisions[0].reason.starts_with("swept: "), "{}", answer.decisions[0].reason);
}

#[tokio::test(start_paused = true)]
async fn after_another_right_key_the_daily_sweep_is_complete() {
    let world = three_days_old(300).await;
    let mut checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    checker.settings.key = KeyArn::parse(&key("other")).unwrap();
    let report = daily(&checker, 1).await;
    assert_eq!((report.incremental, report.objects, report.outcomes[&Outcome::Repaired]), (false, 300, 300));
}

#[tokio::test(start_paused = true)]
async fn no_sweep_checks_the_reports_of_the_function() {
    let world = filled(100, &[(3, under("right"))]);
    world.state().put(BUCKET, "sekisho-reports/2026.csv", Version::new("report", Sse::S3));
    let checker = world.checker(Repair::Update);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].objects, answer.sweeps[0].complete), (3, true));
    assert_eq!(world.state().bucket(BUCKET).writes, 0);
}

/// A refusal must not make the objects that were never listed count as unchanged.
#[tokio::test(start_paused = true)]
async fn a_refused_listing_is_not_compliant_and_is_no_basis_of_an_incremental_sweep() {
    let world = three_days_old(300).await;
    change_in_place(&world, 250, Sse::S3);
    let checker = world.checker(Repair::Update);
    let refuse_after = |from: usize| {
        world.script(move |request| {
            let page = request.query.get("start-after").cloned().unwrap_or_default();
            let is_refused = request.operation == "ListObjectsV2" && (from == 0 || page >= object_key(from));
            is_refused.then(|| Response::error(403, "AccessDenied", "explicit deny"))
        });
    };
    for (day, from) in [(0, 100), (1, 0), (2, 0)] {
        refuse_after(from);
        let answer = handle(&checker, &format!("day-{day}"), SCHEDULE).await.unwrap();
        let (report, summary) = (&answer.sweeps[0], &answer.decisions[0]);
        assert!(report.listing_refused && !report.incremental, "{report:?}");
        let expected = if day == 0 { Outcome::Reported } else { Outcome::Unknown };
        assert_eq!(summary.outcome, expected, "{}", summary.reason);
        assert!(summary.reason.starts_with("incomplete, because S3 refused"), "{}", summary.reason);
        tokio::time::sleep(DAY).await;
    }
    world.state().script = None;
    let report = daily(&checker, 3).await;
    assert_eq!((report.incremental, report.objects), (false, 300));
    assert_eq!(world.state().bucket(BUCKET).latest(&object_key(250)).unwrap().sse, under("right"));
    assert!(daily(&checker, 4).await.incremental);
}

/// The sweep of the person may have missed an object whose key was changed in place.
#[tokio::test(start_paused = true)]
async fn after_an_incomplete_sweep_of_a_person_the_daily_sweep_is_complete() {
    let world = three_days_old(300).await;
    let checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    change_in_place(&world, 250, Sse::S3);
    world.script(|request| {
        let is_late = request.query.get("start-after").is_some_and(|page| *page >= object_key(99));
        let is_refused = request.operation == "ListObjectsV2" && is_late;
        is_refused.then(|| Response::error(403, "AccessDenied", "explicit deny"))
    });
    let answer = handle(&checker, "person", SWEEP).await.unwrap();
    assert!(answer.sweeps[0].listing_refused && answer.sweeps[0].objects < 300, "{:?}", answer.sweeps);
    world.state().script = None;
    assert!(!daily(&checker, 1).await.incremental);
    assert_eq!(world.state().bucket(BUCKET).latest(&object_key(250)).unwrap().sse, under("right"));
}

/// The objects that a sweep checked before the change were compared with the old key.
#[tokio::test(start_paused = true)]
async fn a_sweep_during_which_the_right_key_changed_is_no_basis_of_an_incremental_sweep() {
    let world = three_days_old(300).await;
    let mut checker = world.checker(Repair::Update);
    checker.settings.alone = 100;
    handle(&checker, "day-0", SCHEDULE).await.unwrap();
    checker.settings.key = KeyArn::parse(&key("other")).unwrap();
    while let Some(message) = receive(&world) {
        deliver(&checker, "worker", &message, Duration::from_mins(5)).await.unwrap();
    }
    tokio::time::sleep(DAY).await;
    checker.settings.alone = 20_000;
    let report = daily(&checker, 1).await;
    assert_eq!((report.incremental, report.objects), (false, 300));
    assert_eq!(world.state().bucket(BUCKET).latest(&object_key(0)).unwrap().sse, under("other"));
    assert!(daily(&checker, 2).await.incremental);
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_is_not_continued_under_another_right_key() {
    let world = three_days_old(300).await;
    let mut checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    // This sweep leaves its rest to a range, whose message is lost.
    checker.settings.alone = 20;
    assert!(handle(&checker, "day-1", SCHEDULE).await.unwrap().sweeps[0].incremental);
    world.state().queue.clear();
    tokio::time::sleep(DAY).await;
    checker.settings.alone = 20_000;
    checker.settings.key = KeyArn::parse(&key("other")).unwrap();
    let report = daily(&checker, 2).await;
    assert_eq!((report.sweep.as_str(), report.incremental, report.objects), ("day-2", false, 300));
}

/// An incremental sweep checks an old object again only if the ledger has a finding about it.
#[tokio::test(start_paused = true)]
async fn a_sweep_whose_findings_have_no_rows_is_no_basis_of_an_incremental_sweep() {
    let world = three_days_old(300).await;
    change_in_place(&world, 250, foreign());
    let checker = world.checker(Repair::Update);
    let faulty = Faulty { unwritable: "artifact-finding", ..Faulty::new(&checker.ledger) };
    let faulty = world.with_ledger(&checker, faulty);
    let invocation = invocation("day-0", Duration::from_mins(15));
    let answer = Box::pin(faulty.handle(SCHEDULE, &invocation)).await.unwrap();
    assert_eq!(answer.sweeps[0].outcomes[&Outcome::ForeignKey], 1);
    tokio::time::sleep(DAY).await;
    let report = daily(&checker, 1).await;
    assert_eq!((report.incremental, report.objects), (false, 300));
    assert!(daily(&checker, 2).await.incremental);
}

#[tokio::test(start_paused = true)]
async fn after_an_incremental_sweep_whose_findings_have_no_rows_the_daily_sweep_is_complete() {
    let world = three_days_old(300).await;
    let checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    write(&world, 150, foreign());
    let faulty = Faulty { unwritable: "artifact-finding", ..Faulty::new(&checker.ledger) };
    let faulty = world.with_ledger(&checker, faulty);
    let invocation = invocation("day-1", Duration::from_mins(15));
    let answer = Box::pin(faulty.handle(SCHEDULE, &invocation)).await.unwrap();
    assert_eq!((answer.sweeps[0].incremental, answer.sweeps[0].outcomes[&Outcome::ForeignKey]), (true, 1));
    tokio::time::sleep(DAY).await;
    assert!(!daily(&checker, 2).await.incremental && daily(&checker, 3).await.incremental);
}

/// Nobody got a notice about what the replaced sweep has found.
#[tokio::test(start_paused = true)]
async fn a_sweep_reports_what_only_the_sweep_that_it_replaces_has_found() {
    let world = three_days_old(300).await;
    let mut checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    write(&world, 0, foreign());
    checker.settings.alone = 20;
    let answer = handle(&checker, "day-1", SCHEDULE).await.unwrap();
    assert_eq!((answer.sweeps[0].complete, answer.sweeps[0].findings["new"]), (false, 1));
    world.state().queue.clear();
    assert_eq!(world.state().published, Vec::<String>::new());
    checker.settings.alone = 20_000;
    let answer = handle(&checker, "person", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].sweep.as_str(), answer.sweeps[0].findings["new"]), ("person", 1));
    assert!(world.state().published[0].contains(&object_key(0)), "{:?}", world.state().published);
    let answer = handle(&checker, "later", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].findings["open"], world.state().published.len()), (1, 1));
}

/// Otherwise, it would take rates that the new sweep takes, too, and the two would count their repairs in one row.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_replaced_stops_and_takes_nothing_from_the_new_one() {
    let world = three_days_old(50).await;
    let mut checker = world.checker(Repair::Copy);
    daily(&checker, 0).await;
    for n in 50..1450 {
        write(&world, n, Sse::S3);
    }
    world.state().latency = Duration::from_millis(30);
    // Ten repairs a second.
    checker.settings.rates = Rates { s3: 40, kms: 40 };
    checker.settings.artifacts.confirm_above = 200;
    checker.settings.concurrency = 1;
    let mut of_ranges = world.with_ledger(&checker, Faulty::new(&checker.ledger));
    (of_ranges.settings.alone, of_ranges.settings.concurrency) = (20, 2);
    let lambda = ["day-1", "range-0", "range-1"].map(|id| invocation(id, LONG));
    assert!(Box::pin(of_ranges.handle(SCHEDULE, &lambda[0])).await.unwrap().sweeps[0].incremental);
    let range = async |at: usize, late: u64| {
        tokio::time::sleep(Duration::from_secs(late)).await;
        let message = receive(&world).expect("the range is divided after five seconds");
        let answer = Box::pin(of_ranges.handle(&message, &lambda[at])).await.unwrap();
        assert!(answer.decisions[0].reason.contains("another invocation has taken over"), "{:?}", answer.decisions);
        now()
    };
    let person = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        // Repairs take longer from now on, so that some are under way when the ranges notice the new sweep.
        world.state().latency = Duration::from_millis(150);
        (now(), at_once(&world, &checker, SWEEP).await)
    };
    let ranges = async {
        let (end, other_end) = tokio::join!(range(1, 0), range(2, 6));
        // No repair was cut off. Its claim would keep others from the object for five minutes.
        let rows = checker.ledger.rows();
        let claims: Vec<_> = rows.iter().filter(|(key, _)| key.pk.starts_with("repair#")).collect();
        let is_of_ranges = |row: &BTreeMap<_, _>| format!("{:?}", row["holder"]) == "S(\"day-1\")";
        let is_free = |row: &BTreeMap<_, _>| format!("{:?}", row["until"]) == "N(\"0\")";
        assert!(claims.iter().filter(|(_, row)| is_of_ranges(row)).count() > 50);
        assert!(claims.iter().all(|(_, row)| is_free(row) || !is_of_ranges(row)));
        end.max(other_end)
    };
    let (end, (began, answers)) = tokio::join!(ranges, person);
    assert!(end - began < Duration::from_secs(6), "{}", end - began);
    // The first invocation leaves the rates to the ranges of the replaced sweep until they stop.
    assert_eq!((answers[0].sweeps[0].complete, answers[0].sweeps[0].objects), (false, 0));
    let report = report_of(&answers);
    assert_eq!((report.sweep.as_str(), report.objects), ("first", 1450));
    assert_eq!(report.outcomes[&Outcome::Repaired], 200);
}

/// The new sweep finds the object right, so nobody else would retry the stage.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_replaced_retries_the_stage_of_what_it_has_repaired() {
    let world = three_days_old(50).await;
    let mut checker = retries::checker(&world);
    daily(&checker, 0).await;
    write(&world, 50, under("other"));
    world.declare_pipelines(&[("shop", BUCKET, Some(&key("right")))]);
    let failed = retries::run("Deploy", "Stack", "Failed", &object_key(50));
    world.state().actions.insert("shop".to_owned(), vec![failed]);
    world.state().executions = vec![retries::execution("e1", "Failed", "QUEUED")];
    // The actions are read twice. Between the two answers, the range notices the new sweep.
    world.state().slow_operation = Some(("ListActionExecutions", Duration::from_secs(3)));
    checker.settings.alone = 0;
    let answer = handle(&checker, "day-1", SCHEDULE).await.unwrap();
    assert_eq!((answer.sweeps[0].incremental, answer.sweeps[0].complete), (true, false));
    let message = receive(&world).unwrap();
    let person = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle(&checker, "person", SWEEP).await.unwrap()
    };
    let (replaced, _) = tokio::join!(deliver(&checker, "range", &message, LONG), person);
    let reason = &replaced.unwrap().decisions[0].reason;
    assert!(reason.contains("another invocation has taken over"), "{reason}");
    assert_eq!(retries::retried(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_all_versions_is_never_incremental() {
    let world = three_days_old(300).await;
    let checker = world.checker(Repair::Update);
    daily(&checker, 0).await;
    let request = format!(r#"{{"action":"sweep","bucket":"{BUCKET}","versions":true,"scheduled":true}}"#);
    let answer = handle(&checker, "person", &request).await.unwrap();
    assert_eq!((answer.sweeps[0].incremental, answer.sweeps[0].objects), (false, 300));
}

/// Both sweeps write the row that says whether the next one is incremental.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_ends_beside_another_one_still_requires_a_complete_one() {
    let world = three_days_old(50).await;
    let checker = world.checker(Repair::Update);
    assert!(!daily(&checker, 0).await.incremental && daily(&checker, 1).await.incremental);
    let slow_rows = ("artifact-pass", Duration::from_secs(2));
    let slow = world.with_ledger(&checker, Faulty { slow_rows, ..Faulty::new(&checker.ledger) });
    let lambda = invocation("slow", Duration::from_mins(15));
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle(&checker, "versions", SWEEP_VERSIONS).await.unwrap();
        world.answer_operation("ListObjectsV2", || Response::error(403, "AccessDenied", "Access Denied"));
    };
    let (incomplete, ()) = tokio::join!(slow.handle(SWEEP, &lambda), other);
    assert!(incomplete.unwrap().sweeps[0].listing_refused);
    world.state().script = None;
    assert!(!daily(&checker, 2).await.incremental);
}
