//! Findings of a sweep about the settings of a bucket and about the life of its right key.

use std::time::Duration;

use artifact_checker::{Answer, Outcome};
use sekisho_domain::artifacts::Repair;

use crate::objects::{event, only};
use crate::sweeps::{SCHEDULE, filled};
use crate::world::{BUCKET, Response, World, handle, key, now, under};

/// The problems that a sweep finds, with their outcomes.
fn problems(answer: &Answer) -> Vec<(&str, Outcome)> {
    answer
        .decisions
        .iter()
        .filter_map(|decision| Some((decision.concerns.get("problem")?.as_str(), decision.outcome)))
        .collect()
}

async fn sweep(world: &World) -> Answer {
    handle(&world.checker(Repair::Update), "r", SCHEDULE).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bucket_with_safe_settings_has_no_finding() {
    let world = filled(10, &[(3, under("right"))]);
    assert_eq!(problems(&sweep(&world).await), []);
    // In another bucket, the role may lack the permissions.
    world.script(|request| {
        let is_setting = ["GetBucketPolicy", "GetPublicAccessBlock"].contains(&request.operation.as_str());
        is_setting.then(|| Response::error(403, "AccessDenied", "Access Denied"))
    });
    assert_eq!(problems(&sweep(&world).await), []);
}

#[tokio::test(start_paused = true)]
async fn public_access_and_access_without_tls_are_findings() {
    for blocks_public_access in [Some(false), None] {
        let world = filled(10, &[(3, under("right"))]);
        {
            let mut state = world.state();
            let bucket = state.buckets.get_mut(BUCKET).unwrap();
            bucket.blocks_public_access = blocks_public_access;
            bucket.policy = None;
        }
        let expected = [("public-access", Outcome::Reported), ("no-tls", Outcome::Reported)];
        assert_eq!(problems(&sweep(&world).await), expected);
        assert_eq!(world.state().published.len(), 1);
    }
}

/// Only an accepted problem lets the answer say that all is well.
#[tokio::test(start_paused = true)]
async fn a_known_problem_keeps_the_answer_from_being_compliant_until_it_is_accepted() {
    let world = filled(10, &[(3, under("right"))]);
    world.state().buckets.get_mut(BUCKET).unwrap().policy = None;
    let checker = world.checker(Repair::Update);
    let mut code = String::new();
    for (day, expected) in [Outcome::Reported, Outcome::Reported, Outcome::Compliant].into_iter().enumerate() {
        let answer = handle(&checker, &format!("day-{day}"), SCHEDULE).await.unwrap();
        assert_eq!(answer.decisions[0].outcome, expected, "day {day}: {:?}", answer.decisions);
        if let Some(found) = answer.decisions.iter().find_map(|one| one.concerns.get("finding")) {
            code.clone_from(found);
        }
        if day == 1 {
            let accept = format!(r#"{{"action":"accept","finding":"{code}","reason":"only from inside"}}"#);
            handle(&checker, "accept", &accept).await.unwrap();
        }
        tokio::time::sleep(Duration::from_hours(24)).await;
    }
    assert_eq!(world.state().published.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn people_are_warned_before_the_right_key_stops_working() {
    let world = filled(10, &[(3, under("right"))]);
    let checker = world.checker(Repair::Update);
    let in_days = |days: u64| (now() + Duration::from_hours(24 * days)).unix_timestamp();
    // An hour more, because a sweep takes some time.
    world.state().keys.get_mut(&key("right")).unwrap().valid_to = Some(in_days(32) + 3_600);
    let mut found = Vec::new();
    for day in 0..5 {
        let answer = handle(&checker, &format!("day{day}"), SCHEDULE).await.unwrap();
        found.extend(problems(&answer).into_iter().map(|(problem, outcome)| (day, problem.to_owned(), outcome)));
        tokio::time::sleep(Duration::from_hours(24)).await;
    }
    assert_eq!(found, [(3, "key-expires".to_owned(), Outcome::Reported)]);
    {
        let mut state = world.state();
        let key = state.keys.get_mut(&key("right")).unwrap();
        (key.valid_to, key.deletion_date) = (None, Some(in_days(30)));
        "PendingDeletion".clone_into(&mut key.state);
    }
    let answer = handle(&checker, "deletion", SCHEDULE).await.unwrap();
    assert!(problems(&answer).contains(&("key-deletion", Outcome::KeyUnusable)), "{:?}", answer.decisions);
}

#[tokio::test(start_paused = true)]
async fn a_right_key_that_does_not_work_is_a_finding_of_its_own() {
    for (state, problem) in [("Disabled", "key-disabled"), ("PendingImport", "key-material")] {
        let world = filled(10, &[(3, under("right"))]);
        state.clone_into(&mut world.state().keys.get_mut(&key("right")).unwrap().state);
        let answer = sweep(&world).await;
        assert_eq!(problems(&answer), [(problem, Outcome::KeyUnusable)]);
        assert!(world.state().published[0].contains("the right key"), "{:?}", world.state().published);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deployed_bucket_without_its_default_key_is_a_finding() {
    let world = filled(10, &[(3, under("right"))]);
    world.state().is_default_reset = true;
    let answer = sweep(&world).await;
    assert_eq!(problems(&answer), [("default-key", Outcome::Reported)]);
    let reason = &answer.decisions[1].reason;
    assert!(reason.contains("S3's own key") && reason.contains(&key("right")), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_check_for_an_event_reads_no_settings() {
    let world = crate::objects::world_with(crate::world::s3::Version::new("hello", under("right")));
    only(handle(&world.checker(Repair::Update), "r", &event("object-created")).await.unwrap());
    assert_eq!(world.state().operations("s3"), ["GetObject"]);
}
