//! Repairs that a sweep leaves to S3 Batch Operations: the manifest, the confirmation, the job and its report.

use std::time::Duration;

use artifact_checker::{Answer, Checker, Error, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::{Key, Memory, Store};
use serde_json::{Value, json};

use crate::ranges::at_once;
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS, filled, object_key};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, World, created, foreign, handle, now, under};

/// The time of an invocation of `sekisho-artifact-sweeper`.
pub(crate) const LONG: Duration = Duration::from_mins(5);

/// A checker whose sweeps put up to three objects under the right key in place.
pub(crate) fn checker_with_jobs(world: &World) -> Checker<Memory> {
    let mut checker = world.checker(Repair::Update);
    checker.settings.artifacts.confirm_above = 3;
    checker
}

/// A world with ten objects to repair. A sweep repairs three of them without a job.
pub(crate) fn world_with_much_to_repair() -> World {
    filled(5, &[(4, under("right")), (6, Sse::S3), (4, under("other")), (2, foreign())])
}

/// The code in the answer of a sweep.
pub(crate) fn code(answer: &Answer) -> String {
    let mut codes = answer.decisions.iter().filter_map(|decision| decision.concerns.get("code"));
    codes.next_back().unwrap_or_else(|| panic!("no code in {:?}", answer.decisions)).clone()
}

pub(crate) async fn confirm(checker: &Checker<Memory>, code: &str) -> Result<Answer, Error> {
    handle(checker, "confirm", &json!({"repair": code}).to_string()).await
}

/// Takes the first message out of the queue when it is due.
pub(crate) async fn receive_when_due(world: &World) -> Option<String> {
    let delay = world.state().queue.first().map(|(_, delay)| *delay)?;
    tokio::time::sleep(Duration::from_secs(delay)).await;
    receive(world)
}

/// Delivers the messages of the queue, one after the other, until there are none. Returns the last answer.
pub(crate) async fn follow(world: &World, checker: &Checker<Memory>) -> Answer {
    let mut last = Answer::default();
    for n in 0..100 {
        let Some(message) = receive_when_due(world).await else { return last };
        last = deliver(checker, &format!("follow-{n}"), &message, LONG).await.unwrap();
    }
    panic!("the repair never ends: {last:?}")
}

/// How many objects of the sweep are under the right key.
pub(crate) fn right(world: &World) -> usize {
    let state = world.state();
    let latest = state.bucket(BUCKET).objects.iter().filter(|(key, _)| !key.starts_with("sekisho-reports/"));
    latest.filter(|(_, versions)| versions.last().unwrap().sse == under("right")).count()
}

/// The number of jobs.
pub(crate) fn jobs(world: &World) -> usize {
    world.state().jobs.len()
}

/// The number of written versions and updated keys.
pub(crate) fn writes(world: &World) -> u64 {
    world.state().bucket(BUCKET).writes
}

pub(crate) fn operations(world: &World, operation: &str) -> usize {
    world.state().requests.iter().filter(|request| request.operation == operation).count()
}

/// The state of the finding that a repair waits or is under way, and of the findings about objects.
pub(crate) async fn states(checker: &Checker<Memory>) -> Vec<(String, String)> {
    let rows = checker.ledger.list::<Value>("artifact-finding", "").await.unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut states: Vec<_> = rows.iter().map(|row| (text(&row.state, "key"), text(&row.state, "state"))).collect();
    states.sort();
    states
}

#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_what_is_above_the_limit_and_states_the_cost() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    let report = &answer.sweeps[0];
    assert_eq!((report.outcomes[&Outcome::Repaired], report.outcomes[&Outcome::Reported], report.left), (3, 7, 7));
    assert_eq!((right(&world), writes(&world)), (4 + 3, 3));
    let cost = report.repairs.unwrap();
    assert_eq!(cost.at_most, Some(3));
    assert!((cost.at_most_usd.unwrap() - 3.0 * 15.2e-6).abs() < 1e-9 && (cost.usd - 3.0 * 15.2e-6).abs() < 1e-9);
    let finding = answer.decisions.iter().find(|decision| decision.concerns.contains_key("code")).unwrap();
    assert_eq!((finding.outcome, finding.concerns["state"].as_str()), (Outcome::Reported, "open"));
    assert!(finding.reason.contains("7 objects") && finding.reason.contains("$0.25"), "{}", finding.reason);
    let notice = world.state().published.concat();
    assert!(notice.contains(&code(&answer)) && notice.contains("waiting"), "{notice}");
    // Without a confirmation, nothing happens.
    assert_eq!((operations(&world, "CreateJob"), world.state().queue.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_the_sweep_repairs_everything_by_itself() {
    let world = filled(5, &[(4, under("right")), (2, Sse::S3), (1, under("other"))]);
    let answer = handle(&checker_with_jobs(&world), "r", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].outcomes[&Outcome::Repaired], answer.sweeps[0].left), (3, 0));
    assert_eq!((right(&world), answer.decisions.len()), (7, 1));
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_job_repairs_the_rest_and_people_get_a_notice() {
    let world = world_with_much_to_repair();
    world.state().job_rules.looks = 4;
    let checker = checker_with_jobs(&world);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    let code = code(&answer);
    let confirmed = confirm(&checker, &code.to_lowercase()).await.unwrap();
    assert!(confirmed.decisions[0].reason.contains("$0.25"), "{:?}", confirmed.decisions);
    assert_eq!(operations(&world, "CreateJob"), 0, "only the sweeper may create the job");
    let rows = checker.ledger.list::<Value>("artifact-finding", "").await.unwrap();
    assert!(rows.iter().all(|row| !row.state["reason"].as_str().unwrap().contains("make repair")), "{rows:?}");
    let end = follow(&world, &checker).await;
    assert_eq!(end.decisions[0].outcome, Outcome::Repaired, "{:?}", end.decisions);
    assert_eq!((right(&world), writes(&world), world.state().jobs.len()), (14, 10, 1));
    let [sweep, notice] = world.state().published.clone().try_into().unwrap();
    assert!(sweep.contains(&code) && notice.contains("7 of 7 objects repaired"), "{notice}");
    let open: Vec<_> = states(&checker).await.into_iter().filter(|(_, state)| state != "resolved").collect();
    assert_eq!(open.len(), 2, "only the objects under a foreign key are left: {open:?}");
    // The keys of the objects have spaces, plus signs and letters that are not ASCII.
    let manifest = world.state().jobs[0].manifest.clone();
    assert!(manifest.contains("shop/a%20b%2B00007%C3%A9\n"), "{manifest}");
    assert_eq!(manifest.lines().count(), 7);
    // A repair that has ended is not confirmed again, and the next sweep finds nothing to repair.
    assert!(matches!(confirm(&checker, &code).await.unwrap_err(), Error::NotFound(_)));
    let again = handle(&checker, "again", SWEEP).await.unwrap();
    assert_eq!((again.sweeps[0].outcomes[&Outcome::Compliant], again.sweeps[0].left, writes(&world)), (14, 0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_second_confirmation_creates_no_second_job() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    for _ in 0..2 {
        confirm(&checker, &code).await.unwrap();
    }
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 14, 10));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_code_and_a_malformed_request_are_refused() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    for code in ["ABCD2345", "no code"] {
        assert!(matches!(confirm(&checker, code).await.unwrap_err(), Error::NotFound(_)), "{code}");
    }
    for payload in
        [r#"{"action":"repair"}"#, r#"{"repair":"ABCD2345","dry_run":true}"#, r#"{"action":"repair","code":7}"#]
    {
        assert!(matches!(handle(&checker, "r", payload).await.unwrap_err(), Error::InvalidRequest(_)), "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn objects_keep_their_setting_of_the_bucket_key() {
    let world = filled(5, &[(3, Sse::S3)]);
    for n in 0..4 {
        let version = Version { bucket_key: n % 2 == 0, ..Version::new("x", under("other")) };
        world.state().put(BUCKET, &format!("z-{n}"), version);
    }
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (2, 7, 7));
    for n in 0..4 {
        assert_eq!(world.state().bucket(BUCKET).latest(&format!("z-{n}")).unwrap().bucket_key, n % 2 == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_all_versions_leaves_versions() {
    let world = World::new();
    for n in 0..6 {
        world.state().put(BUCKET, "one key", Version::new(&format!("content {n}"), Sse::S3));
    }
    let checker = checker_with_jobs(&world);
    let answer = handle(&checker, "r", SWEEP_VERSIONS).await.unwrap();
    assert_eq!(answer.sweeps[0].left, 3);
    confirm(&checker, &code(&answer)).await.unwrap();
    follow(&world, &checker).await;
    let manifest = world.state().jobs[0].manifest.clone();
    assert!(manifest.lines().all(|line| line.starts_with(&format!("{BUCKET},one%20key,v"))), "{manifest}");
    let state = world.state();
    assert!(state.bucket(BUCKET).objects["one key"].iter().all(|version| version.sse == under("right")));
    assert_eq!(state.bucket(BUCKET).writes, 6);
}

/// The invocations of a sweep count their repairs together.
#[tokio::test(start_paused = true)]
async fn a_sweep_in_ranges_leaves_what_is_above_the_limit() {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(50));
    for n in 0..1000 {
        let key = format!("pipeline-{:02}/{n:05}", n % 20);
        world.state().put(BUCKET, &key, Version::new("content", if n % 2 == 0 { Sse::S3 } else { under("right") }));
    }
    world.state().latency = Duration::from_millis(30);
    let mut checker = world.checker(Repair::Update);
    checker.settings.artifacts.confirm_above = 60;
    checker.settings.alone = 100;
    checker.settings.rates.s3 = 30;
    let answers = at_once(&world, &checker, SWEEP).await;
    let reports: Vec<_> = answers.iter().flat_map(|answer| &answer.sweeps).collect();
    let report = reports.iter().find(|report| report.range.is_none() && report.complete).unwrap();
    let repaired = report.outcomes[&Outcome::Repaired];
    assert_eq!((report.objects, repaired + report.left), (1000, 500));
    // Between two looks at the common count, the ranges repair a few objects more.
    assert!((60..200).contains(&repaired), "{repaired}");
    assert!(reports.len() > 4, "{}", reports.len());
    let code = answers
        .iter()
        .find_map(|answer| answer.decisions.iter().find_map(|decision| decision.concerns.get("code").cloned()));
    confirm(&checker, &code.unwrap()).await.unwrap();
    follow(&world, &checker).await;
    assert_eq!((right(&world), writes(&world)), (1000, 500));
}

/// A large manifest is uploaded in parts.
#[tokio::test(start_paused = true)]
async fn a_manifest_of_several_parts_has_every_object_once() {
    let world = filled(10, &[(60, Sse::S3)]);
    world.state().latency = Duration::from_secs(3);
    let mut checker = checker_with_jobs(&world);
    checker.settings.manifest_part = 500;
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    assert!(operations(&world, "UploadPart") > 1);
    world.state().latency = Duration::ZERO;
    confirm(&checker, &code(&answer)).await.unwrap();
    follow(&world, &checker).await;
    let manifest = world.state().jobs[0].manifest.clone();
    let mut keys: Vec<&str> = manifest.lines().collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), right(&world), writes(&world)), (57, 60, 60));
}

#[tokio::test(start_paused = true)]
async fn while_a_job_waits_or_runs_a_sweep_repairs_nothing_in_place() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let first = code(&handle(&checker, "r1", SWEEP).await.unwrap());
    // A later sweep replaces the repair that nobody has confirmed, and people get the new code.
    let answer = handle(&checker, "r2", SWEEP).await.unwrap();
    let second = code(&answer);
    assert_eq!((answer.sweeps[0].left, writes(&world), first == second), (7, 3, false));
    assert!(matches!(confirm(&checker, &first).await.unwrap_err(), Error::NotFound(_)));
    assert!(world.state().published[1].contains(&second));
    confirm(&checker, &second).await.unwrap();
    // Now the job is under way, and the sweep does not replace it.
    let answer = handle(&checker, "r3", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].left, writes(&world)), (7, 3));
    assert!(answer.decisions.iter().all(|decision| !decision.concerns.contains_key("code")), "{answer:?}");
    // While the repair waits, a new object is still repaired by its own event.
    world.state().put(BUCKET, "new", Version::new("x", Sse::S3));
    let event = handle(&checker, "event", &created(BUCKET, "new", None)).await.unwrap();
    assert_eq!(event.decisions[0].outcome, Outcome::Repaired);
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 15, 11));
}

/// The daily sweep stays incremental while a repair waits, although the ledger has no rows of what is left.
#[tokio::test(start_paused = true)]
async fn a_waiting_repair_costs_no_complete_sweep_every_day() {
    let world = world_with_much_to_repair();
    let written = now() - Duration::from_hours(24 * 30);
    for versions in world.state().buckets.get_mut(BUCKET).unwrap().objects.values_mut() {
        versions[0].written = Some(written);
    }
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    let daily = handle(&checker, "daily", SCHEDULE).await.unwrap();
    assert!(daily.sweeps[0].incremental, "{daily:?}");
    // The job has not repaired everything, so the next sweep looks at all objects.
    world.state().job_rules.denied.insert(object_key(9));
    confirm(&checker, &code).await.unwrap();
    follow(&world, &checker).await;
    let daily = handle(&checker, "next", SCHEDULE).await.unwrap();
    assert!(!daily.sweeps[0].incremental, "{daily:?}");
    assert_eq!(right(&world), 14);
}

/// What a sweep leaves while another repair is under way is in no manifest, so the next sweeps must check it again.
#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_checks_again_what_is_in_no_manifest() {
    let day = Duration::from_hours(24);
    let world = world_with_much_to_repair();
    for versions in world.state().buckets.get_mut(BUCKET).unwrap().objects.values_mut() {
        versions[0].written = Some(now() - 30 * day);
    }
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    tokio::time::sleep(2 * day).await;
    let new = Version { written: Some(now() - day * 3 / 2), ..Version::new("x", Sse::S3) };
    world.state().put(BUCKET, "new", new);
    let daily = handle(&checker, "daily", SCHEDULE).await.unwrap();
    assert!(daily.sweeps[0].incremental && daily.sweeps[0].left > 0, "{daily:?}");
    follow(&world, &checker).await;
    let next = handle(&checker, "next", SCHEDULE).await.unwrap();
    assert!(next.sweeps[0].incremental, "{next:?}");
    assert_eq!(right(&world), 15);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_the_latest_versions_does_not_replace_a_repair_of_all_versions() {
    let world = World::new();
    for n in 0..6 {
        world.state().put(BUCKET, "one key", Version::new(&format!("content {n}"), Sse::S3));
    }
    let checker = checker_with_jobs(&world);
    let first = code(&handle(&checker, "r1", SWEEP_VERSIONS).await.unwrap());
    world.state().put(BUCKET, "new", Version::new("x", Sse::S3));
    let answer = handle(&checker, "r2", SWEEP).await.unwrap();
    let row = checker.ledger.list::<Value>("artifact-repair", "").await.unwrap();
    assert_eq!((answer.sweeps[0].left, row[0].state["code"].as_str().unwrap()), (1, first.as_str()));
    let second = code(&handle(&checker, "r3", SWEEP_VERSIONS).await.unwrap());
    confirm(&checker, &second).await.unwrap();
    follow(&world, &checker).await;
    assert!(world.state().bucket(BUCKET).objects["one key"].iter().all(|version| version.sse == under("right")));
}

#[tokio::test(start_paused = true)]
async fn only_the_sweeper_continues_a_repair() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    let payload = json!({"repair": code, "follow": true}).to_string();
    assert!(matches!(handle(&checker, "person", &payload).await.unwrap_err(), Error::Refused(_)));
    assert_eq!(operations(&world, "CreateJob"), 0);
    follow(&world, &checker).await;
    assert_eq!(right(&world), 14);
}

/// Otherwise, each confirmation would start a chain of messages that lasts until the end of the job.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_too_early_is_dropped() {
    let world = world_with_much_to_repair();
    world.state().job_rules.looks = 30;
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    for n in 0..15 {
        let message = receive_when_due(&world).await.unwrap();
        deliver(&checker, &format!("look-{n}"), &message, LONG).await.unwrap();
    }
    confirm(&checker, &code).await.unwrap();
    let early = world.state().queue.pop().unwrap().0;
    let dropped = deliver(&checker, "early", &early, LONG).await.unwrap();
    assert_eq!((dropped.decisions[0].outcome, world.state().queue.len()), (Outcome::Ignored, 1));
    assert_eq!(follow(&world, &checker).await.decisions[0].outcome, Outcome::Repaired);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_finds_nothing_left_ends_a_repair_that_waits() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    for versions in world.state().buckets.get_mut(BUCKET).unwrap().objects.values_mut() {
        versions[0].sse = under("right");
    }
    handle(&checker, "again", SWEEP).await.unwrap();
    assert!(matches!(confirm(&checker, &code).await.unwrap_err(), Error::NotFound(_)));
    assert!(states(&checker).await.iter().all(|(_, state)| state == "resolved"));
}

#[tokio::test(start_paused = true)]
async fn a_repair_under_another_right_key_is_refused() {
    let world = world_with_much_to_repair();
    let mut checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    checker.settings.key = artifact_checker::KeyArn::parse(&crate::world::key("other")).unwrap();
    assert!(matches!(confirm(&checker, &code).await.unwrap_err(), Error::Refused(_)));
    assert_eq!(world.state().queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_repairs_in_place_nothing_is_left() {
    let payloads = [(Repair::Report, SWEEP, 0), (Repair::Copy, SWEEP, 3), (Repair::Update, SWEEP_DRY_RUN, 0)];
    for (repair, payload, expected) in payloads {
        let world = world_with_much_to_repair();
        let mut checker = world.checker(repair);
        checker.settings.artifacts.confirm_above = 3;
        let answer = handle(&checker, "r", payload).await.unwrap();
        assert_eq!((answer.sweeps[0].left, writes(&world)), (0, expected), "{repair:?} {payload}");
        let above = answer.decisions.iter().filter(|decision| decision.reason.contains("confirm_above")).count();
        assert_eq!(above, if repair == Repair::Copy { 7 } else { 0 }, "{:?}", answer.decisions);
    }
}

/// Only the role for the stack's own bucket exists, so no job repairs the rest.
#[tokio::test(start_paused = true)]
async fn in_another_bucket_what_is_above_the_limit_is_reported() {
    let world = World::new();
    world.state().buckets.insert("shared-store".to_owned(), Bucket::new(ACCOUNT));
    for n in 0..6 {
        world.state().put("shared-store", &format!("k{n}"), Version::new("x", Sse::S3));
    }
    world.declare_pipelines(&[("shop", "shared-store", Some(&crate::world::key("right")))]);
    let mut checker = world.checker_of(Repair::Update, &["shared-store"]);
    checker.settings.artifacts.confirm_above = 3;
    let answer = handle(&checker, "r", r#"{"action":"sweep","bucket":"shared-store"}"#).await.unwrap();
    let report = &answer.sweeps[0];
    assert_eq!((report.outcomes[&Outcome::Repaired], report.outcomes[&Outcome::Reported], report.left), (3, 3, 0));
    assert_eq!(report.repairs.unwrap().at_most, Some(3));
    assert!(answer.decisions[1].reason.contains("raise it"), "{}", answer.decisions[1].reason);
    // The next sweep goes on with three more.
    handle(&checker, "next", r#"{"action":"sweep","bucket":"shared-store"}"#).await.unwrap();
    assert_eq!(world.state().bucket("shared-store").writes, 6);
}

/// A version of the function without jobs has written the row.
#[tokio::test(start_paused = true)]
async fn the_rows_of_a_sweep_without_jobs_can_be_read() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    handle(&checker, "r", SWEEP).await.unwrap();
    let key = Key::state(format!("sweep#{BUCKET}"));
    let row = checker.ledger.read::<Value>(&key).await.unwrap().unwrap();
    let mut state = row.state;
    state["totals"].as_object_mut().unwrap().remove("left").unwrap();
    checker.ledger.write(&key, &state, Some(row.revision), "earlier").await.unwrap();
    handle(&checker, "again", SWEEP).await.unwrap();
}
