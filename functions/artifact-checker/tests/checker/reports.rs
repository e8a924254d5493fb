//! Tests of the list of all findings of a sweep.

use std::time::Duration;

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::objects::only;
use crate::sweep_progress::to_the_end;
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, count, filled, object_key};
use crate::world::s3::Sse;
use crate::world::{BUCKET, Response, World, created, foreign, handle, key, under};

/// The keys and contents of the lists.
fn lists(world: &World) -> Vec<(String, String)> {
    let state = world.state();
    let objects = state.bucket(BUCKET).objects.iter().filter(|(key, _)| key.starts_with("sekisho-reports/"));
    objects.map(|(key, versions)| (key.clone(), versions.last().unwrap().content.clone())).collect()
}

/// The keys of the objects in the JSON Lines.
fn listed(world: &World) -> Vec<String> {
    let lists = lists(world).into_iter().filter(|(key, _)| key.rsplit('.').next() == Some("jsonl"));
    let lines = lists.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let finding = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let mut keys: Vec<String> = lines.map(|line| finding(line)["object"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test(start_paused = true)]
async fn a_sweep_lists_all_findings_under_the_right_key_and_names_the_list() {
    let world = filled(100, &[(50, under("right")), (250, foreign())]);
    let checker = world.checker(Repair::Update);
    let answer = handle(&checker, "r", SWEEP).await.unwrap();
    let list = answer.sweeps[0].list.clone().unwrap();
    assert!(list.starts_with(&format!("s3://{BUCKET}/sekisho-reports/{BUCKET}/2026-11-2")), "{list}");
    assert_eq!(answer.decisions[0].concerns["list"], list);
    assert!(world.state().published[0].contains(&format!("All findings: {list}")), "{}", world.state().published[0]);
    assert_eq!(listed(&world), (50..300).map(object_key).collect::<Vec<_>>());
    let lists = lists(&world);
    let [(csv, text), (json, _)] = lists.as_slice() else { panic!("{lists:?}") };
    assert!(csv.ends_with("/start-00000.csv") && json.ends_with("/start-00000.jsonl"), "{csv} {json}");
    assert!(format!("s3://{BUCKET}/{csv}").starts_with(&list));
    assert_eq!(text.lines().count(), 1 + 250);
    assert_eq!(world.state().bucket(BUCKET).latest(csv).unwrap().sse, Sse::Kms(key("right")));
    // The next sweep lists the known findings, too, and does not check the lists.
    let answer = handle(&checker, "r2", SCHEDULE).await.unwrap();
    assert_eq!((answer.sweeps[0].objects + answer.sweeps[0].unchanged, listed(&world).len()), (300, 500));
}

#[tokio::test(start_paused = true)]
async fn the_list_has_the_findings_about_the_bucket_and_its_pipelines_known_ones_included() {
    for objects in [0, 1] {
        let world = filled(10, &[(5, under("right")), (objects, foreign())]);
        world.declare_pipelines(&[("shop", BUCKET, Some("alias/artifacts"))]);
        let checker = world.checker(Repair::Update);
        for id in ["first", "second"] {
            let answer = handle(&checker, id, SWEEP).await.unwrap();
            let list = answer.sweeps[0].list.clone().unwrap();
            assert_eq!(answer.decisions[0].concerns["list"], list);
            let of_sweep =
                lists(&world).into_iter().filter(|(key, _)| format!("s3://{BUCKET}/{key}").starts_with(&list));
            let (csv, json): (Vec<_>, Vec<_>) = of_sweep.partition(|(key, _)| key.rsplit('.').next() == Some("csv"));
            assert_eq!((csv.len(), json.len()), (1 + objects, 1 + objects), "{id}");
            let about_shop =
                |text: &str| text.lines().filter(|line| line.contains("shop") && !line.contains("é")).count();
            for files in [csv, json] {
                assert_eq!(files.iter().map(|(_, text)| about_shop(text)).sum::<usize>(), 1, "{id}: {files:?}");
            }
        }
        let notice = world.state().published[0].clone();
        assert!(notice.contains("All findings: "), "{notice}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_not_written_by_a_dry_run_or_without_findings_and_its_event_is_ignored() {
    let world = filled(10, &[(5, under("right")), (5, foreign())]);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP_DRY_RUN).await.unwrap();
    assert_eq!((lists(&world), answer.sweeps[0].list.clone()), (vec![], None));
    let world = filled(10, &[(5, under("right")), (5, under("other"))]);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    assert_eq!((lists(&world), answer.sweeps[0].list.clone()), (vec![], None));
    let event = created(BUCKET, "sekisho-reports/b/1/start-00000.csv", None);
    let before = world.state().operations("s3").len();
    let decision = only(handle(&world.checker(Repair::Update), "r2", &event).await.unwrap());
    assert_eq!((decision.outcome, world.state().operations("s3").len()), (Outcome::Ignored, before));
}

#[tokio::test(start_paused = true)]
async fn every_finding_is_in_the_list_once_if_a_sweep_takes_many_invocations() {
    let world = filled(10, &[(400, foreign())]);
    world.state().latency = Duration::from_millis(400);
    let checker = world.checker(Repair::Update);
    to_the_end(&world, &checker, SWEEP, Duration::from_secs(47)).await;
    let files = lists(&world).len();
    assert!(files > 2, "{files}");
    assert_eq!(listed(&world), (0..400).map(object_key).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_goes_on_if_its_list_cannot_be_written() {
    let world = filled(10, &[(5, under("right")), (5, foreign())]);
    world.answer_operation("PutObject", || Response::error(403, "AccessDenied", "no"));
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP).await.unwrap();
    let report = &answer.sweeps[0];
    assert!(report.complete);
    assert_eq!((report.list.clone(), report.not_listed, count(&answer, Outcome::ForeignKey)), (None, 5, 5));
}
