//! Findings are new, open, resolved or accepted, and people hear of changes only.

use std::time::Duration;

use artifact_checker::{Answer, Checker, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_domain::code::Code;
use sekisho_lambda::{ErrorType, Failure};
use sekisho_ledger::{Key, Memory, Store};

use crate::objects::{OBJECT, event, only, world_with};
use crate::sweep_progress::to_the_end;
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS, filled, object_key};
use crate::world::s3::Version;
use crate::world::{BUCKET, Response, World, foreign, handle, now, under};

const DAY: Duration = Duration::from_hours(24);

/// Makes the daily sweep of the next day.
async fn next_day(checker: &Checker<Memory>, day: &str) -> Answer {
    tokio::time::sleep(DAY).await;
    handle(checker, day, SCHEDULE).await.unwrap()
}

/// Takes the notices that were sent since the last call.
fn notices(world: &World) -> Vec<String> {
    std::mem::take(&mut world.state().published)
}

/// Takes the events that were sent since the last call: the state and the key of each.
fn events(world: &World) -> Vec<(String, String)> {
    let events = std::mem::take(&mut world.state().events);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| (text(&event["state"]), text(&event["key"]))).collect()
}

fn remove(world: &World, key: &str) -> Vec<Version> {
    world.state().buckets.get_mut(BUCKET).unwrap().objects.remove(key).unwrap()
}

/// The code of the only finding in an answer.
fn code(answer: &Answer) -> String {
    let codes: Vec<_> = answer.decisions.iter().filter_map(|decision| decision.concerns.get("finding")).collect();
    assert_eq!(codes.len(), 1, "{:?}", answer.decisions);
    codes[0].clone()
}

#[tokio::test(start_paused = true)]
async fn only_changes_are_reported() {
    let world = filled(10, &[(20, under("right")), (3, foreign())]);
    let checker = world.checker(Repair::Update);
    let answer = next_day(&checker, "first").await;
    // The first pass gives one summary, and its findings may be old.
    let [summary] = notices(&world).try_into().unwrap();
    assert!(summary.contains(&object_key(22)) && answer.decisions.len() == 1 + 3, "{summary}");
    assert_eq!(events(&world), [20, 21, 22].map(|n| ("open".to_owned(), object_key(n))));
    let answer = next_day(&checker, "second").await;
    assert_eq!((notices(&world).len(), events(&world).len(), answer.decisions.len()), (0, 0, 1));
    assert!(answer.decisions[0].reason.ends_with("findings: 3 open"), "{}", answer.decisions[0].reason);
    world.state().put(BUCKET, "shop/new", Version::new("x", foreign()));
    let answer = next_day(&checker, "third").await;
    let [notice] = notices(&world).try_into().unwrap();
    assert!(notice.contains("shop/new") && !notice.contains(&object_key(20)), "{notice}");
    assert!(notice.contains(&code(&answer)), "{notice}");
    assert_eq!(events(&world), [("new".to_owned(), "shop/new".to_owned())]);
    // A new version keeps the finding.
    world.state().put(BUCKET, "shop/new", Version::new("y", foreign()));
    let removed = remove(&world, &object_key(20));
    next_day(&checker, "fourth").await;
    let [notice] = notices(&world).try_into().unwrap();
    assert!(notice.contains("Not found any more") && notice.contains(&object_key(20)), "{notice}");
    assert!(!notice.contains("shop/new"), "{notice}");
    assert_eq!(events(&world), [("resolved".to_owned(), object_key(20))]);
    world.state().buckets.get_mut(BUCKET).unwrap().objects.insert(object_key(20), removed);
    next_day(&checker, "fifth").await;
    assert_eq!((notices(&world).len(), events(&world)), (1, vec![("new".to_owned(), object_key(20))]));
}

#[tokio::test(start_paused = true)]
async fn people_are_reminded_of_open_findings_every_week() {
    let world = filled(10, &[(3, under("right")), (1, foreign())]);
    let checker = world.checker(Repair::Update);
    let mut sent = Vec::new();
    for day in 0..22 {
        next_day(&checker, &format!("day{day}")).await;
        for notice in notices(&world) {
            sent.push((day, notice.contains("open findings")));
        }
    }
    assert_eq!(sent, [(0, false), (7, true), (14, true), (21, true)]);
}

/// For two weeks, S3 does not list the bucket.
#[tokio::test(start_paused = true)]
async fn people_are_reminded_even_if_no_sweep_ends() {
    let world = filled(10, &[(3, under("right")), (1, foreign())]);
    let checker = world.checker(Repair::Update);
    let mut sent = Vec::new();
    for day in 0..16 {
        if day == 1 {
            world.answer_operation("ListObjectsV2", || Response::error(500, "InternalError", "We"));
        }
        let answer = next_day(&checker, &format!("day{day}")).await;
        assert_eq!(answer.sweeps.iter().any(|sweep| sweep.complete), day == 0, "{answer:?}");
        for notice in notices(&world) {
            let is_summary = notice.contains("open findings");
            assert_eq!(is_summary, notice.contains(&object_key(3)) && day > 0, "{notice}");
            sent.push((day, is_summary));
        }
    }
    assert_eq!(sent, [(0, false), (1, false), (7, true), (14, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_sns_refuses_is_made_up_for_by_a_summary() {
    let world = filled(10, &[(3, under("right"))]);
    let checker = world.checker(Repair::Update);
    next_day(&checker, "first").await;
    world.state().put(BUCKET, "shop/new", Version::new("x", foreign()));
    world.answer_every("sns", || {
        Response::new(400).body("<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>")
    });
    next_day(&checker, "second").await;
    world.state().script = None;
    next_day(&checker, "third").await;
    let [summary] = notices(&world).try_into().unwrap();
    assert!(summary.contains("open findings") && summary.contains("shop/new"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn an_accepted_finding_is_not_mentioned_again_until_it_is_resolved() {
    let world = filled(10, &[(3, under("right")), (1, foreign())]);
    let checker = world.checker(Repair::Update);
    let code = code(&next_day(&checker, "first").await);
    let accept = |code: &str| format!(r#"{{"action":"accept","finding":"{code}","reason":"they archive it"}}"#);
    notices(&world);
    events(&world);
    let accepted = only(handle(&checker, "a", &accept(&code.to_lowercase())).await.unwrap());
    assert_eq!((accepted.outcome, accepted.concerns["object"].as_str()), (Outcome::Accepted, object_key(3).as_str()));
    assert!(accepted.reason.contains("they archive it"), "{}", accepted.reason);
    assert_eq!((notices(&world).len(), events(&world)), (0, vec![("accepted".to_owned(), object_key(3))]));
    for day in 0..15 {
        let answer = next_day(&checker, &format!("day{day}")).await;
        assert!(answer.decisions[0].reason.ends_with("findings: 1 accepted"), "{}", answer.decisions[0].reason);
    }
    assert_eq!((notices(&world).len(), events(&world).len()), (0, 0));
    let removed = remove(&world, &object_key(3));
    next_day(&checker, "resolved").await;
    assert_eq!((notices(&world).len(), events(&world)), (1, vec![("resolved".to_owned(), object_key(3))]));
    let error = handle(&checker, "a2", &accept(&code)).await.unwrap_err();
    assert!(error.error_type() == ErrorType::NotFound && error.to_string().contains("resolved"), "{error}");
    world.state().buckets.get_mut(BUCKET).unwrap().objects.insert(object_key(3), removed);
    next_day(&checker, "again").await;
    assert_eq!(events(&world), [("new".to_owned(), object_key(3))]);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_accept_needs_a_finding_and_a_reason() {
    let checker = World::new().checker(Repair::Update);
    let cases = [
        (r#"{"action":"accept","finding":"ABCDEFGH","reason":"r"}"#, ErrorType::NotFound),
        (r#"{"action":"accept","finding":"no code","reason":"r"}"#, ErrorType::NotFound),
        (r#"{"action":"accept","finding":"ABCDEFGH","reason":" "}"#, ErrorType::InvalidRequest),
        (r#"{"action":"accept","finding":"ABCDEFGH"}"#, ErrorType::InvalidRequest),
        (r#"{"action":"accept","reason":"r"}"#, ErrorType::InvalidRequest),
        (r#"{"action":"accept","finding":"ABCDEFGH","reason":"r","bucket":"b"}"#, ErrorType::InvalidRequest),
    ];
    for (payload, expected) in cases {
        let error = handle(&checker, "r", payload).await.unwrap_err();
        assert_eq!(error.error_type(), expected, "{payload}: {error}");
        assert!(expected != ErrorType::InvalidRequest || error.to_string().contains(r#""action":"accept""#), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_events_of_one_object_send_one_notice_after_sns_has_accepted_it() {
    let world = world_with(Version::new("hello", foreign()));
    let checker = world.checker(Repair::Update);
    world.answer_every("sns", || {
        Response::new(400).body("<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>")
    });
    handle(&checker, "r", &event("object-created")).await.unwrap_err();
    world.state().script = None;
    for (id, state, sent) in [("r", "new", 1), ("r", "new", 1), ("other", "open", 0)] {
        let decision = only(handle(&checker, id, &event("object-created")).await.unwrap());
        assert_eq!((decision.outcome, decision.concerns["state"].as_str()), (Outcome::ForeignKey, state));
        assert_eq!(notices(&world).len(), sent, "{id}");
    }
    assert!(events(&world).contains(&("new".to_owned(), OBJECT.to_owned())));
    // The sweep finds it again, and it is not new.
    let answer = handle(&checker, "sweep", SWEEP).await.unwrap();
    assert!(answer.decisions[0].reason.ends_with("findings: 1 open"), "{}", answer.decisions[0].reason);
}

/// Writes the rows of 10,000 findings about objects of another bucket.
async fn write_many_rows(checker: &Checker<Memory>, state: &str) {
    for n in 0..10_000 {
        let row = serde_json::json!({
            "bucket": "elsewhere", "key": n.to_string(), "version": null, "pipeline": null, "verdict": "foreign-key",
            "reason": "r", "state": state, "since": "2026-11-20T00:00:00Z", "found_by": "earlier",
            "expires": 4_102_444_800_i64,
        });
        let key = Key { pk: "artifact-finding".to_owned(), sk: Code::of(&[&n.to_string()]).to_string() };
        checker.ledger.write(&key, &row, None, "earlier").await.unwrap();
    }
}

/// The right key was disabled for a day, for example.
#[tokio::test(start_paused = true)]
async fn resolved_findings_take_no_room_from_new_ones() {
    let world = filled(10, &[(20, under("right")), (1, foreign())]);
    let checker = world.checker(Repair::Update);
    write_many_rows(&checker, "resolved").await;
    let answer = next_day(&checker, "first").await;
    assert!(answer.decisions[0].reason.ends_with("findings: 1 open"), "{}", answer.decisions[0].reason);
    assert_eq!((notices(&world).len(), events(&world)), (1, vec![("open".to_owned(), object_key(20))]));
    remove(&world, &object_key(20));
    next_day(&checker, "second").await;
    let rows = checker.ledger.list::<serde_json::Value>("artifact-finding", "").await.unwrap();
    let row = rows.into_iter().find(|row| row.state["key"] == object_key(20)).unwrap().state;
    let in_a_month = (now() + 30 * DAY).unix_timestamp();
    assert_eq!((row["state"].as_str(), row["expires"].as_i64()), (Some("resolved"), Some(in_a_month)));
}

#[tokio::test(start_paused = true)]
async fn people_hear_that_the_ledger_does_not_have_all_findings() {
    let world = filled(10, &[(20, under("right")), (2, foreign())]);
    let checker = world.checker(Repair::Update);
    write_many_rows(&checker, "open").await;
    let answer = next_day(&checker, "first").await;
    let finding = answer.decisions.iter().find(|one| one.concerns.get("problem").is_some_and(|it| it == "not-tracked"));
    assert!(finding.unwrap().reason.contains("no rows of 2 findings"), "{:?}", answer.decisions);
    assert!(notices(&world)[0].contains("no rows of 2 findings"));
    let answer = next_day(&checker, "second").await;
    assert!(!answer.sweeps[0].incremental && notices(&world).is_empty(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_over_several_invocations_resolves_exactly_what_is_gone() {
    let world = filled(10, &[(400, under("right")), (40, foreign())]);
    let checker = world.checker(Repair::Update);
    next_day(&checker, "first").await;
    events(&world);
    notices(&world);
    world.state().latency = Duration::from_millis(400);
    for n in [405, 439] {
        remove(&world, &object_key(n));
    }
    let payload = SWEEP.to_owned();
    let (answer, invocations) = to_the_end(&world, &checker, &payload, Duration::from_secs(47)).await;
    assert!(invocations > 2, "{invocations}");
    assert!(answer.decisions[0].reason.ends_with("findings: 38 open, 2 resolved"), "{}", answer.decisions[0].reason);
    assert_eq!(events(&world), [405, 439].map(|n| ("resolved".to_owned(), object_key(n))));
    assert_eq!(notices(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_finding_about_an_older_version_is_resolved_only_by_a_sweep_of_all_versions() {
    for page in [1, 2, 10] {
        let world = filled(page, &[]);
        for (key, old) in [("a", foreign()), ("b", under("right")), ("c", foreign())] {
            world.state().put(BUCKET, key, Version::new("old", old));
            world.state().put(BUCKET, key, Version::new("new", under("right")));
        }
        let checker = world.checker(Repair::Update);
        handle(&checker, "versions", SWEEP_VERSIONS).await.unwrap();
        assert_eq!(events(&world).len(), 2, "{page}");
        for (id, payload) in [("daily", SCHEDULE), ("versions2", SWEEP_VERSIONS), ("daily2", SCHEDULE)] {
            handle(&checker, id, payload).await.unwrap();
            assert_eq!(events(&world), [], "{page} {id}");
        }
        world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut("a").unwrap().remove(0);
        handle(&checker, "versions3", SWEEP_VERSIONS).await.unwrap();
        assert_eq!(events(&world), [("resolved".to_owned(), "a".to_owned())], "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_checked_is_not_resolved() {
    let broken = || Response::error(500, "InternalError", "We encountered an error.");
    for operation in ["HeadObject", "ListObjectsV2"] {
        let world = filled(10, &[(25, under("right")), (1, foreign())]);
        let checker = world.checker(Repair::Update);
        next_day(&checker, "first").await;
        events(&world);
        world.script(move |request| {
            let is_object = request.operation == operation && request.path.contains("00025");
            let is_list = request.operation == operation && operation == "ListObjectsV2";
            match (is_object, is_list) {
                (true, _) => Some(broken()),
                (_, true) => Some(Response::error(403, "AccessDenied", "Access Denied")),
                _ => None,
            }
        });
        next_day(&checker, "second").await;
        let resolved = events(&world).into_iter().filter(|(state, _)| state == "resolved").count();
        assert_eq!(resolved, 0, "{operation}");
        world.state().script = None;
        let answer = next_day(&checker, "third").await;
        assert!(answer.decisions[0].reason.contains("1 open"), "{operation}: {}", answer.decisions[0].reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_names_every_finding_with_its_code_and_changes_no_state() {
    let world = filled(10, &[(3, under("right")), (2, foreign())]);
    let checker = world.checker(Repair::Update);
    next_day(&checker, "first").await;
    events(&world);
    let answer = handle(&checker, "dry", SWEEP_DRY_RUN).await.unwrap();
    let codes = answer.decisions.iter().filter(|decision| decision.concerns.contains_key("finding")).count();
    assert_eq!((codes, events(&world).len()), (2, 0), "{:?}", answer.decisions);
}

#[tokio::test(start_paused = true)]
async fn an_everyday_artifact_that_is_in_order_needs_three_calls() {
    let world = world_with(Version::new("hello", under("right")));
    let checker = world.checker(Repair::Update);
    only(handle(&checker, "r", &event("object-created")).await.unwrap());
    let calls: Vec<String> = world.state().requests.iter().map(|request| request.operation.clone()).collect();
    // The third call records the decision in the ledger.
    assert_eq!(calls, ["GetObject", "DescribeKey"]);
    assert_eq!(checker.ledger.list::<serde_json::Value>("artifact-finding", "").await.unwrap().len(), 0);
}
