//! The alias `board`: whatever comes through it, the function calls no service.

use std::time::Duration;

use artifact_checker::{Checker, Response};
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::{Failure as _, Invocation};
use sekisho_ledger::Memory;
use sekisho_testing::cases;
use serde_json::{Value, json};

use crate::objects::world_with;
use crate::ranges::{checker_of_ranges, world_with_prefixes};
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS};
use crate::world::s3::Version;
use crate::world::{World, handle, invocation, under};

/// Invokes the function through an alias, and asserts that nothing was called or written.
async fn ask(
    world: &World,
    checker: &Checker<Memory>,
    alias: Option<&str>,
    payload: &Value,
) -> Result<Response, &'static str> {
    let plain = invocation("request-1", Duration::from_mins(15));
    let invocation = Invocation { qualifier: alias.map(str::to_owned), ..plain };
    let answer = Box::pin(checker.respond(&payload.to_string(), &invocation)).await;
    assert!(world.state().requests.is_empty() && checker.ledger.rows().is_empty(), "{payload}");
    answer.map_err(|error| error.error_type().name())
}

/// Invokes the function through an alias. Returns the type of the error.
async fn refusal(world: &World, checker: &Checker<Memory>, alias: Option<&str>, payload: &Value) -> &'static str {
    ask(world, checker, alias, payload).await.unwrap_err()
}

/// No example accepts a finding.
#[tokio::test(start_paused = true)]
async fn nobody_accepts_a_finding_through_the_board() {
    let world = world_with(Version::new("artifact", under("other")));
    let checker = world.checker(Repair::Update);
    let accept = json!({"action": "accept", "finding": "ABCDEFGH", "reason": "r"});
    assert_eq!(refusal(&world, &checker, Some("board"), &accept).await, "Refused");
    for dry_run in [json!(true), json!("true"), json!(1)] {
        let mut accept = accept.clone();
        accept["dry_run"] = dry_run;
        assert_eq!(refusal(&world, &checker, Some("board"), &accept).await, "InvalidRequest", "{accept}");
        accept["widgetContext"] = json!({});
        let answer = ask(&world, &checker, Some("board"), &accept).await;
        assert!(matches!(answer, Ok(Response::Widget(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_comes_through_the_board_is_carried_out() {
    let world = world_with(Version::new("artifact", under("other")));
    let checker = world.checker(Repair::Update);
    for name in cases::names("artifact-checker") {
        let payload: Value = serde_json::from_str(&cases::file("artifact-checker", &name)).unwrap();
        let with = |key: &str, value: Value| {
            let mut with = payload.clone();
            with[key] = value;
            with
        };
        // The dry run of a sweep writes its report to the ledger.
        for payload in [payload.clone(), with("dry_run", json!(true))] {
            assert_eq!(refusal(&world, &checker, Some("board"), &payload).await, "Refused", "{name}");
        }
        for dry_run in [json!("true"), json!(1)] {
            let error = refusal(&world, &checker, Some("board"), &with("dry_run", dry_run)).await;
            let is_sweep = payload["action"] == "sweep";
            assert_eq!(error, if is_sweep { "InvalidRequest" } else { "Refused" }, "{name}");
        }
        // The person who looks at a dashboard did not write the fields of its widgets.
        for alias in [None, Some("board"), Some("live")] {
            for key in ["widgetContext", "describe"] {
                let payload = with(key, json!({"params": payload}));
                let answer = ask(&world, &checker, alias, &payload).await;
                let Ok(Response::Widget(html)) = answer else { panic!("{name}: {answer:?}") };
                assert!(html.contains("never swept"), "{html}");
                let mut other = payload;
                other["widget"] = json!("trains");
                assert_eq!(refusal(&world, &checker, alias, &other).await, "InvalidRequest", "{name}");
            }
            let text = ask(&world, &checker, alias, &with("describe", json!(true))).await;
            assert!(
                matches!(&text, Ok(Response::Widget(text)) if text.starts_with("# Sekisho: artifacts")),
                "{text:?}"
            );
        }
    }
}

/// The row of a sweep has nothing of what its open ranges have found.
#[tokio::test(start_paused = true)]
async fn the_widget_shows_how_far_sweeps_in_ranges_are() {
    let world = world_with_prefixes(20);
    let checker = checker_of_ranges(&world);
    world.state().latency = Duration::from_millis(900);
    let names = [(SWEEP, "sweep runs"), (SWEEP_VERSIONS, "sweep of all versions runs"), (SWEEP_DRY_RUN, "dry run")];
    let mut expected = Vec::new();
    for (payload, name) in names {
        let first = handle(&checker, name, payload).await.unwrap();
        let range = receive(&world).unwrap();
        let part = deliver(&checker, name, &range, Duration::from_secs(55)).await.unwrap();
        let (first, part) = (&first.sweeps[0], &part.sweeps[0]);
        assert!(!part.complete && part.objects > 0, "{name}: {part:?}");
        expected.push((name, first.objects + part.objects));
        let again = handle(&checker, "again", payload).await.unwrap();
        let reason = &again.decisions.last().unwrap().reason;
        assert!(reason.contains(&format!(": {} objects", first.objects + part.objects)), "{name}: {reason}");
        world.state().queue.clear();
    }
    let plain = invocation("board", Duration::from_secs(3));
    let shown = Box::pin(checker.respond(r#"{"widgetContext":{}}"#, &plain)).await;
    let Ok(Response::Widget(html)) = shown else { panic!("{shown:?}") };
    let text = html.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect::<String>();
    for (name, objects) in expected {
        let of_name = text.split(&format!("{name} since ")).nth(1).unwrap_or_else(|| panic!("{name}: {text}"));
        let count = of_name.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(count, objects.to_string(), "{name}: {of_name}");
    }
}
