use sekisho_board::Theme;
use sekisho_testing::page::{HOSTILE, assert_golden, assert_safe, long};
use serde_json::json;
use time::macros::{datetime, offset};
use time::{Duration as Span, OffsetDateTime};

use super::*;

/// The time of the picture in the documentation, in which all widgets are.
const NOW: OffsetDateTime = datetime!(2026-11-21 12:30 UTC);

fn at(hours_ago: i64) -> String {
    sekisho_domain::timestamp::seconds(NOW - Span::hours(hours_ago))
}

fn finding(n: usize, verdict: &str, state: &str, hours: i64) -> (Code, FindingRow) {
    let row = json!({
        "bucket": "sekisho-artifacts", "key": format!("shop/SourceArti/{n:05}.zip"), "version": null, "pipeline": null,
        "verdict": verdict, "reason": format!("it is under the wrong key, and the repair failed ({n})"), "state": state,
        "since": at(hours), "found_by": "s", "expires": 0,
    });
    (Code::of(&[&n.to_string()]), serde_json::from_value(row).unwrap())
}

fn sweep(complete: bool, outcomes: &serde_json::Value, objects: u64) -> SweepRow {
    serde_json::from_value(json!({
        "sweep": "s", "versions": false, "dry_run": false, "started": at(2), "position": null, "complete": complete,
        "totals": {
            "objects": objects, "unchanged": 50, "proven": 1, "outcomes": outcomes,
            "checks": {"writes_and_lists": 0, "reads": 0}, "repairs": {"writes_and_lists": 0, "reads": 0},
            "more_findings": 0, "findings": [],
        },
        "holder": "s", "until": 0, "expires": 0,
    }))
    .unwrap()
}

fn bucket(name: &str, sweep: Option<SweepRow>, objects: Option<u64>) -> Bucket {
    Bucket { name: name.to_owned(), sweeps: sweep.into_iter().collect(), objects }
}

fn shown(buckets: Vec<Bucket>, findings: Vec<(Code, FindingRow)>, unreadable: usize) -> String {
    let viewer = Viewer { theme: Theme::Light, now: NOW.to_offset(offset!(+9)) };
    let html = artifacts(&viewer, &Records { buckets, findings, unreadable });
    assert_safe(&html);
    html
}

#[test]
fn a_bucket_that_was_never_swept() {
    let html = shown(vec![bucket("sekisho-artifacts", None, None)], vec![], 0);
    assert!(html.contains("never swept") && html.contains("There are no open findings."), "{html}");
    assert_golden("artifacts-empty", &html);
}

#[test]
fn shares_progress_and_findings() {
    let done = sweep(true, &json!({"compliant": 90, "repaired": 5, "reported": 5, "gone": 20}), 120);
    let running = sweep(false, &json!({"compliant": 150}), 150);
    let first = sweep(false, &json!({}), 0);
    let buckets = vec![
        bucket("sekisho-artifacts", Some(done), Some(170)),
        bucket("codepipeline-web", Some(running), Some(500)),
        bucket("codepipeline-mail", Some(first), None),
    ];
    let findings = vec![
        finding(1, "reported", "open", 50),
        finding(2, "reported", "new", 1),
        finding(3, "key-unusable", "open", 3),
        finding(4, "reported", "accepted", 9),
        finding(5, "reported", "resolved", 9),
    ];
    let html = shown(buckets, findings, 0);
    for words in [
        "95% compliant",
        "95 of 100 checked objects",
        "200 of about 500 objects",
        "about 3h left",
        "the end is not known",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    for words in
        ["Open findings (3)", "2 reported", "for up to 2d", "1 key-unusable", "1 accepted finding is not shown"]
    {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert_golden("artifacts-ordinary", &html);
}

#[test]
fn many_findings_are_counted() {
    let findings =
        (0..2_000).map(|n| finding(n, if n % 2 == 0 { "reported" } else { "foreign-key" }, "open", 30)).collect();
    let html = shown(vec![bucket("sekisho-artifacts", None, None)], findings, 0);
    assert!(html.contains("1000 foreign-key") && html.contains("and 1970 more"), "{html}");
    assert_golden("artifacts-huge", &html);
}

#[test]
fn text_of_strangers_stays_text() {
    let text = format!("{HOSTILE} {}", long());
    let (code, mut row) = finding(1, "reported", "open", 1);
    (row.bucket, row.key, row.pipeline) = (Some(text.clone()), Some(text.clone()), Some(text.clone()));
    (row.reason, row.since) = (text.clone(), text.clone());
    let html = shown(vec![bucket(&text, None, None), bucket(&long(), None, None)], vec![(code, row)], 2);
    assert!(html.contains("&lt;script&gt;") && html.contains("an unknown time"), "{html}");
    assert_golden("artifacts-hostile", &html);
}
