//! `where` shows which revision runs in each target. The tests in `status.rs` cover the single cells.

use crate::function::{CONFIG, Function};
use crate::targets::{SHOP_2, SHOP_3, ordered, report, write_target, write_unreadable};

/// A second route with one target.
const WEBSITE: &str = r#"
[[route]]
repository = "website"
branches = ["main"]
[[route.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "website"
action = "Source"
"#;

async fn lines(function: &Function, request: &str) -> Vec<String> {
    let text = function.ask(request).await.unwrap();
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test(start_paused = true)]
async fn each_target_has_a_line_also_if_it_never_reported() {
    let function = Function::new();
    write_target(function.account(), SHOP_2, &ordered(2));
    function.handle(&report(SHOP_2, &ordered(2), "healthy", 0).to_string()).await.unwrap();
    let lines = lines(&function, r#"{"action":"where"}"#).await;
    assert_eq!(lines, [format!("{SHOP_2} 00000000 healthy 0s 00000000 main"), format!("{SHOP_3} - no order - -")]);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_route_narrows_the_table() {
    let function = Function::with(&(WEBSITE.to_owned() + CONFIG));
    assert_eq!(lines(&function, r#"{"action":"where"}"#).await.len(), 3);
    let website = lines(&function, r#"{"action":"where","route":"website"}"#).await;
    assert_eq!(website, ["222222222222/ap-northeast-1/website - no order - -"]);
}

#[tokio::test(start_paused = true)]
async fn where_neither_writes_nor_records_anything() {
    let function = Function::new();
    function.ask(r#"{"action":"where"}"#).await.unwrap();
    assert!(function.account().ledger.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_does_not_hide_the_other_targets() {
    let function = Function::new();
    write_target(function.account(), SHOP_3, &ordered(2));
    write_unreadable(function.account(), SHOP_2);
    let lines = lines(&function, r#"{"action":"where"}"#).await;
    assert!(lines[0].contains("unreadable") && lines[1].contains("no report"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn the_table_of_a_usual_configuration_is_narrow() {
    let function = Function::new();
    write_target(function.account(), SHOP_2, &ordered(2));
    let text = function.ask(r#"{"action":"where"}"#).await.unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

/// An answer is shown in a Slack channel, so the text of a payload must not notify everybody there.
#[tokio::test(start_paused = true)]
async fn an_error_cannot_notify_a_channel() {
    let function = Function::new();
    for payload in [
        r#"{"action":"<!channel>"}"#,
        r#"{"action":"where","<!channel>":1}"#,
        r#"{"action":"where","route":"<!channel>"}"#,
        r#"{"action":"resend","route":"shop","account":"<!channel>"}"#,
        r#"{"action":"resend","route":"shop","account":"222222222222","<!channel>":1}"#,
        r#"{"action":"redeliver","reason":"r","change":{"kind":"<!channel>"}}"#,
    ] {
        let error = function.ask(payload).await.unwrap_err().to_string();
        assert!(error.contains("!channel") && !error.contains('<'), "{payload}: {error}");
    }
}
