//! Whole buckets: what a sweep finds, mends and reports, and how it goes on.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may fail that way"
)]

mod world;

use std::time::Duration;

use artifact_checker::handler::{Answer, Checker, Error};
use artifact_checker::verdict::Outcome;
use proptest::prelude::*;
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::Memory;
use world::s3::{Bucket, Sse, Version};
use world::{BUCKET, Fault, OTHER_ACCOUNT, REGION, Response, World, handle, invocation, key, pipeline};

const SWEEP: &str = include_str!("../../../events/artifact-checker/sweep.json");
const SWEEP_VERSIONS: &str = include_str!("../../../events/artifact-checker/sweep-versions.json");
const SWEEP_DRY_RUN: &str = include_str!("../../../events/artifact-checker/sweep-dry-run.json");
const SCHEDULE: &str = include_str!("../../../events/artifact-checker/schedule.json");

fn under(id: &str) -> Sse {
    Sse::Kms(key(id))
}

fn foreign() -> Sse {
    Sse::Kms(format!("arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/theirs"))
}

/// A bucket in pages of this length, with so many objects under each.
fn filled(page: usize, objects: &[(usize, Sse)]) -> World {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(world::ACCOUNT).paged(page));
    let mut n = 0;
    for (count, sse) in objects {
        for _ in 0..*count {
            world.state().put(BUCKET, &format!("shop/a b+{n:05}é"), Version::new(&format!("content {n}"), sse.clone()));
            n += 1;
        }
    }
    world
}

fn count(answer: &Answer, outcome: Outcome) -> u64 {
    answer.sweeps.iter().map(|sweep| sweep.outcomes.get(&outcome).copied().unwrap_or(0)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_sweep_mends_what_it_can_and_names_the_rest() {
    let world = filled(10, &[(25, under("right")), (7, Sse::S3), (5, under("other")), (3, foreign())]);
    let checker = world.checker(Repair::Update);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    let report = &answer.sweeps[0];
    assert!(report.complete);
    assert_eq!((report.objects, report.more_findings), (40, 0));
    assert_eq!(count(&answer, Outcome::Compliant), 25);
    assert_eq!(count(&answer, Outcome::Repaired), 12);
    assert_eq!(count(&answer, Outcome::ForeignKey), 3);
    // One of each page is read, and all that was repaired.
    assert!(report.proven >= 12 + 3 && report.proven < 25, "{}", report.proven);
    assert_eq!(answer.decisions[0].reason, "swept: 40 objects: 25 compliant, 12 repaired, 3 foreign-key");
    assert_eq!(answer.decisions.len(), 1 + 3);
    assert_eq!(answer.decisions[1].concerns["writer"], "account 111111111111, whose key it is under");
    assert_eq!(world.state().published.len(), 1);
    assert!(world.state().published[0].contains("account 111111111111"));
    // Once more: nothing is left to do.
    let answer = handle(&checker, "r2", SWEEP).await.unwrap();
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::ForeignKey)), (37, 3));
    assert_eq!(world.state().bucket(BUCKET).writes, 12);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_and_estimates_what_the_sweep_then_asks() {
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
        let asked = world.state().operations("s3");
        let of = |names: &[&str]| asked.iter().filter(|name| names.contains(&name.as_str())).count() as u64;
        assert_eq!(of(&["ListObjectsV2", "CopyObject", "UpdateObjectEncryption"]), estimate.writes_and_lists);
        assert_eq!(of(&["HeadObject", "GetObject"]), estimate.reads, "{repair:?}");
        let usd = (estimate.writes_and_lists as f64 * 5.0 + estimate.reads as f64 * 0.4) / 1e6;
        assert!((estimate.usd - usd).abs() < 1e-12);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_hundred_findings_are_named_and_the_rest_counted() {
    let world = filled(50, &[(130, foreign())]);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!(answer.decisions.len(), 1 + 100);
    assert_eq!(answer.sweeps[0].more_findings, 30);
    assert!(world.state().published[0].contains("and 30 more"));
}

#[tokio::test(start_paused = true)]
async fn all_versions_are_updated_and_none_but_the_latest_copied() {
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

/// Answers a sweep, and what the function sends itself, as Lambda would; returns the last answer and how many there were.
async fn to_the_end(world: &World, checker: &Checker<Memory>, payload: &str, time: Duration) -> (Answer, usize) {
    let mut payload = payload.to_owned();
    for n in 1.. {
        let invocation = invocation(&format!("r{n}"), time);
        let answer = Box::pin(checker.handle(&payload, &invocation)).await.unwrap();
        let next = world.state().invoked.pop();
        match next {
            Some(next) => payload = next,
            None => return (answer, n),
        }
        assert!(n < 1000, "it never ends");
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn before_time_is_up_the_next_invocation_goes_on_by_itself() {
    let world = filled(10, &[(400, under("right")), (10, Sse::S3), (4, foreign())]);
    world.state().latency = Duration::from_millis(400);
    let checker = world.checker(Repair::Update);
    let (answer, invocations) = to_the_end(&world, &checker, SWEEP, Duration::from_secs(47)).await;
    assert!(invocations > 2, "{invocations}");
    let report = &answer.sweeps[0];
    assert!(report.complete);
    assert_eq!((report.objects, report.sweep.as_str()), (414, "r1"));
    assert_eq!(count(&answer, Outcome::Repaired), 10);
    assert_eq!(answer.decisions.len(), 1 + 4);
    assert_eq!(world.state().published.len(), 1);
    // What goes on is that sweep: sent twice, it is not begun anew.
    let again = format!(r#"{{"action":"sweep","bucket":"{BUCKET}","sweep":"r1"}}"#);
    let answer = handle(&checker, "again", &again).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Ignored);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let world = filled(100, &[(4000, under("right")), (5, Sse::S3)]);
    world.state().latency = Duration::from_secs(1);
    let checker = world.checker(Repair::Copy);
    let killed = tokio::time::timeout(Duration::from_secs(30), handle(&checker, "r", SWEEP)).await;
    assert!(killed.is_err());
    // Another may not take it while it may live.
    let other = handle(&checker, "other", SWEEP).await.unwrap();
    assert_eq!(other.decisions[0].outcome, Outcome::Ignored, "{}", other.decisions[0].reason);
    assert!(other.decisions[0].reason.contains("under way"));
    let looked = world.state().operations("s3").iter().filter(|name| *name == "HeadObject").count();
    assert!(looked > 500, "{looked}");
    // Lambda's retry has the same id; anybody may go on after the lease.
    tokio::time::sleep(Duration::from_mins(2)).await;
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].objects, count(&answer, Outcome::Repaired)), (4005, 5));
    let all = world.state().operations("s3").iter().filter(|name| *name == "HeadObject").count();
    // What was in flight since the last checkpoint is repeated: the pages that were open, and five seconds' work.
    assert!(all < 4005 + 5 * 3 + 8 * 100 + 5 * 100, "{all}");
    assert!(all < 4005 + looked, "it began anew: {all}");
}

#[tokio::test(start_paused = true)]
async fn it_slows_down_when_s3_asks_and_every_object_is_checked() {
    let world = filled(100, &[(1500, under("right")), (20, Sse::S3)]);
    world.state().latency = Duration::from_millis(10);
    world.state().faults = (50..400).map(|n| (n, Fault::SlowDown)).collect();
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!(answer.sweeps[0].objects, 1520);
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::Repaired)), (1500, 20));
}

#[tokio::test(start_paused = true)]
async fn what_s3_never_answers_about_is_unknown_and_the_rest_is_checked() {
    let world = filled(10, &[(30, under("right"))]);
    world.state().script = Some(Box::new(|request| {
        let broken = || Response::error(500, "InternalError", "We encountered an error.");
        (request.operation == "HeadObject" && request.path.contains("00007")).then(broken)
    }));
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!((count(&answer, Outcome::Compliant), count(&answer, Outcome::Unknown)), (29, 1));
    assert!(answer.decisions[1].reason.contains("8 times"), "{}", answer.decisions[1].reason);
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_proof_every_object_is_read() {
    let world = filled(10, &[(300, under("right"))]);
    world.state().buckets.get_mut(BUCKET).unwrap().reads_denied = true;
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert!(count(&answer, Outcome::Unverifiable) > 200, "{:?}", answer.sweeps[0].outcomes);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_not_shown_is_a_finding() {
    let world = World::new();
    world.state().buckets.get_mut(BUCKET).unwrap().owner = "999999999999".to_owned();
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    let outcomes: Vec<Outcome> = answer.decisions.iter().map(|decision| decision.outcome).collect();
    assert!(outcomes.contains(&Outcome::Unverifiable), "{outcomes:?}");
    assert_eq!(world.state().published.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_sweeps_the_buckets_of_all_pipelines() {
    let world = filled(10, &[(3, under("right"))]);
    for bucket in ["clear", "unclear"] {
        world.state().buckets.insert(bucket.to_owned(), Bucket::new(world::ACCOUNT));
        world.state().put(bucket, "object", Version::new("hello", Sse::S3));
    }
    let pipelines = [
        ("one".to_owned(), pipeline("one", "clear", Some(&key("other")))),
        ("two".to_owned(), pipeline("two", "unclear", None)),
        ("three".to_owned(), pipeline("three", BUCKET, Some(&key("right")))),
    ];
    world.state().pipelines = Some(pipelines.into_iter().collect());
    let answer = handle(&world.checker(Repair::Update), "r", SCHEDULE).await.unwrap();
    let swept: Vec<&str> = answer.sweeps.iter().map(|sweep| sweep.bucket.as_str()).collect();
    assert_eq!(swept, [BUCKET, "clear"]);
    assert_eq!(world.state().bucket("clear").latest("object").unwrap().sse, under("other"));
    // Where it can't be told which key is right, nothing is touched.
    assert_eq!(world.state().bucket("unclear").latest("object").unwrap().sse, Sse::S3);
    let unclear = answer.decisions.iter().find(|decision| decision.outcome == Outcome::Unknown).unwrap();
    assert_eq!(unclear.concerns["bucket"], "unclear");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_gets_nowhere_fails_and_does_not_call_itself() {
    let world = filled(10, &[(3, under("right"))]);
    world.state().latency = Duration::from_mins(2);
    let checker = world.checker(Repair::Update);
    let invocation = invocation("r", Duration::from_mins(1));
    let answer = Box::pin(checker.handle(SWEEP, &invocation)).await;
    assert!(matches!(answer, Err(Error::Sweep(_) | Error::Unanswered(_))), "{answer:?}");
    assert_eq!(world.state().invoked, Vec::<String>::new());
}

/// What pipelines keep elsewhere, such as in the buckets that CodePipeline's console makes, is closed to the function.
#[tokio::test(start_paused = true)]
async fn a_bucket_that_the_function_may_not_look_at_is_told_once_in_a_long_while() {
    let world = filled(10, &[(3, under("right"))]);
    for bucket in ["closed", "open"] {
        world.state().buckets.insert(bucket.to_owned(), Bucket::new(world::ACCOUNT));
        world.state().put(bucket, "object", Version::new("hello", Sse::S3));
    }
    world.state().buckets.get_mut("closed").unwrap().closed = true;
    let pipelines = [
        ("one".to_owned(), pipeline("one", "closed", None)),
        ("two".to_owned(), pipeline("two", "open", Some(&key("other")))),
    ];
    world.state().pipelines = Some(pipelines.into_iter().collect());
    let checker = world.checker(Repair::Update);
    let mut findings = Vec::new();
    for day in 0..29 {
        let answer = handle(&checker, &format!("day{day}"), SCHEDULE).await.unwrap();
        assert_eq!(answer.sweeps.len(), 2, "what people gave leave for is swept");
        findings.extend(answer.decisions.into_iter().filter(|decision| decision.outcome.is_finding()));
        tokio::time::sleep(Duration::from_hours(24)).await;
    }
    assert_eq!(world.state().bucket("open").latest("object").unwrap().sse, under("other"));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].outcome, Outcome::Unverifiable);
    assert!(findings[0].reason.contains("s3:ListBucket") && findings[0].reason.contains("arn:aws:s3:::closed"));
    assert_eq!(world.state().published.len(), 1);
    // Who asks is told all the same.
    let answer = handle(&checker, "asked", r#"{"action":"sweep","bucket":"closed"}"#).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Ignored);
    assert!(answer.decisions[0].reason.contains("arn:aws:s3:::closed"), "{}", answer.decisions[0].reason);
}

/// A fault that was told is none of the next sweeps' either.
#[tokio::test(start_paused = true)]
async fn what_pipelines_say_wrong_is_told_once_by_the_sweeps_of_a_day() {
    let world = filled(10, &[(3, under("right"))]);
    let pipelines = [("shop".to_owned(), pipeline("shop", BUCKET, Some("alias/artifacts")))];
    world.state().pipelines = Some(pipelines.into_iter().collect());
    let mut checker = world.checker(Repair::Update);
    for n in 0..3 {
        checker.known = artifact_checker::handler::Known::default();
        let answer = handle(&checker, &format!("r{n}"), SWEEP).await.unwrap();
        let expected = if n == 0 { Outcome::Reported } else { Outcome::Compliant };
        assert_eq!(answer.decisions[0].outcome, expected, "{:?}", answer.decisions);
        assert_eq!(world.state().published.len(), 1, "sweep {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_what_is_wrong() {
    let world = filled(10, &[(2, Sse::S3), (2, foreign())]);
    world.state().buckets.get_mut(BUCKET).unwrap().default_key = Some(key("other"));
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP_DRY_RUN).await.unwrap();
    assert_eq!((count(&answer, Outcome::Reported), count(&answer, Outcome::ForeignKey)), (2, 2));
}

/// The alarm for findings counts the log's lines with the message `decision`.
#[test]
fn a_dry_run_raises_no_alarm() {
    let test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_dry_run_of_what_is_wrong", "--nocapture"])
        .output()
        .unwrap();
    let log = String::from_utf8(test.stdout).unwrap();
    assert_eq!(log.matches(r#""message":"dry run""#).count(), 4, "{log}");
    assert!(!log.contains(r#""message":"decision""#), "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_another_invocation_repairs_is_no_finding() {
    for (time, outcome) in [(Duration::from_mins(15), Outcome::Repaired), (Duration::from_mins(2), Outcome::Ignored)] {
        let world = filled(10, &[(3, under("right")), (1, Sse::S3)]);
        let checker = world.checker(Repair::Copy);
        let target = artifact_checker::object::Target {
            bucket: BUCKET.to_owned(),
            key: "shop/a b+00003é".to_owned(),
            version: None,
        };
        // It dies, and its claim holds for five minutes.
        artifact_checker::claim::ask(&checker.ledger, &target, "dead", world::now()).await.unwrap();
        let answer = Box::pin(checker.handle(SWEEP, &invocation("r", time))).await.unwrap();
        assert!(answer.sweeps[0].complete);
        assert_eq!((count(&answer, outcome), count(&answer, Outcome::Unknown)), (1, 0), "{:?}", answer.decisions);
        assert_eq!(world.state().published, Vec::<String>::new());
    }
}

/// How one version of a random object is.
#[derive(Debug, Clone)]
struct Made {
    sse: Sse,
    locked: bool,
    archived: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let sse = prop_oneof![
        3 => Just(under("right")),
        3 => Just(Sse::S3),
        3 => Just(under("other")),
        1 => Just(Sse::Dsse(key("other"))),
        1 => Just(Sse::Dsse(key("right"))),
        1 => Just(foreign()),
        1 => Just(Sse::Customer),
        1 => Just(under("disabled")),
        1 => Just(under("deleted")),
    ];
    (sse, prop::bool::weighted(0.15), prop::bool::weighted(0.1)).prop_map(|(sse, locked, archived)| Made {
        sse,
        locked,
        archived,
    })
}

#[derive(Debug, Clone)]
struct Case {
    objects: Vec<(String, Vec<Made>, bool)>,
    versioned: bool,
    updates_denied: bool,
    repair: Repair,
    versions: bool,
    faults: Vec<(usize, Fault)>,
    kill_after: Option<u64>,
    page: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let name = prop_oneof!["[a-z]{1,3}", "[a-z +%?&=é関\u{1}]{0,5}[a-z+%?&=é関\u{1}]"];
    let object = (name, prop::collection::vec(made(), 1..4), prop::bool::weighted(0.1));
    let fault = prop_oneof![Just(Fault::SlowDown), Just(Fault::Internal), Just(Fault::AnswerLost)];
    (
        prop::collection::vec(object, 1..15),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.3),
        prop_oneof![Just(Repair::Update), Just(Repair::Copy)],
        any::<bool>(),
        prop::collection::vec((2..200_usize, fault), 0..15),
        prop::option::of(1..400_u64),
        1..8_usize,
    )
        .prop_map(|(objects, versioned, updates_denied, repair, versions, faults, kill_after, page)| Case {
            objects,
            versioned,
            updates_denied,
            repair,
            versions,
            faults,
            kill_after,
            page,
        })
}

/// Whether the rules let a version be put under the right key.
fn can_be_mended(case: &Case, version: &Version, latest: bool) -> bool {
    let wrong = match &version.sse {
        Sse::S3 => true,
        Sse::Kms(arn) | Sse::Dsse(arn) => *arn == key("other"),
        Sse::Customer => false,
    };
    let archived = version.storage_class.is_some();
    let update = case.repair == Repair::Update && !case.updates_denied && !matches!(version.sse, Sse::Dsse(_));
    wrong && !version.locked && !version.delete_marker && (latest || case.versions) && (update || latest && !archived)
}

/// Under the right key, in as many layers as before.
fn as_mended(sse: &Sse) -> Sse {
    match sse {
        Sse::Dsse(_) => Sse::Dsse(key("right")),
        _ => under("right"),
    }
}

async fn model(case: Case) -> Result<(), TestCaseError> {
    let world = World::new();
    {
        let mut state = world.state();
        state.keys.insert(key("disabled"), world::Key { state: "Disabled".to_owned(), shown: true });
        let mut bucket = Bucket::new(world::ACCOUNT).paged(case.page);
        bucket.versioned = case.versioned;
        bucket.updates_denied = case.updates_denied;
        state.buckets.insert(BUCKET.to_owned(), bucket);
        for (name, versions, deleted) in &case.objects {
            for (n, made) in versions.iter().enumerate() {
                let mut version = Version::new(&format!("{name} {n}"), made.sse.clone());
                version.locked = made.locked;
                version.storage_class = made.archived.then(|| "GLACIER".to_owned());
                version.metadata.insert("x-amz-meta-n".to_owned(), n.to_string());
                state.put(BUCKET, name, version);
            }
            if *deleted && case.versioned {
                state.put(BUCKET, name, Version { delete_marker: true, ..Version::new("", Sse::S3) });
            }
        }
        state.latency = Duration::from_millis(5);
        state.faults = case.faults.iter().copied().collect();
    }
    let before = world.state().bucket(BUCKET).objects.clone();
    let checker = world.checker(case.repair);
    let payload = if case.versions { SWEEP_VERSIONS } else { SWEEP };
    if let Some(after) = case.kill_after {
        let _ = tokio::time::timeout(Duration::from_millis(after), handle(&checker, "r", payload)).await;
    }
    let answer = handle(&checker, "r", payload).await.unwrap();
    prop_assert!(answer.sweeps[0].complete);

    let after = world.state().bucket(BUCKET).clone();
    let mut mendable = 0;
    for (name, old) in &before {
        let new = &after.objects[name];
        let (was, is) = (old.last().unwrap(), new.last().unwrap());
        // The content and metadata that were the latest are the latest.
        prop_assert_eq!(
            (&is.content, &is.metadata, is.delete_marker),
            (&was.content, &was.metadata, was.delete_marker)
        );
        for version in old {
            let latest = version.id == was.id;
            let mendable_now = can_be_mended(&case, version, latest);
            mendable += u64::from(mendable_now);
            let now = new.iter().find(|now| now.id == version.id).unwrap();
            // Nothing of a version changes but its key, and a lock holds.
            let mut expected = version.clone();
            if !(version.locked || case.repair == Repair::Copy && case.versioned) && now.sse == as_mended(&version.sse)
            {
                expected.sse = now.sse.clone();
                expected.etag.clone_from(&now.etag);
            }
            prop_assert_eq!(now, &expected);
            if mendable_now {
                let mended = if latest { is } else { now };
                let about = answer.decisions.iter().filter(|decision| decision.concerns.get("object") == Some(name));
                prop_assert_eq!(&mended.sse, &as_mended(&version.sse), "{:?} {:?}", version, about.collect::<Vec<_>>());
            }
        }
    }
    let lost = case.faults.iter().filter(|(_, fault)| *fault == Fault::AnswerLost).count() as u64;
    prop_assert!(after.writes <= mendable + lost, "{} writes for {mendable}", after.writes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_in_a_bucket_and_happens_meanwhile(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(model(case))?;
    }
}
