//! The widget `trains`, and its golden HTML.

use std::fmt::Write as _;
use std::time::Duration;

use event_relay::target::{self, TargetRow};
use event_relay::world::World as _;
use futures_util::FutureExt;
use sekisho_domain::change::Revision;
use sekisho_domain::report::OrderReport;
use sekisho_ledger::{Memory, Store};
use sekisho_testing::page::{HOSTILE, assert_golden, assert_safe, long};
use serde_json::{Value, json};
use time::macros::datetime;

use crate::function::file;
use crate::targets::{report, target_row, write_unreadable};
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD, about, request};

/// A bake and a window for the waves after the first one, a route without waves, and the names of two accounts.
fn config() -> String {
    let tokyo = "name = \"tokyo\"\nbake = \"30m\"\nalarms = [\"shop-*\"]\n";
    let world = "name = \"world\"\nwindows = [\"Mon-Fri 09:00-17:00 Asia/Tokyo\"]\n";
    let config = TRAIN.replace("name = \"tokyo\"\n", tokyo).replace("name = \"world\"\n", world);
    let config = config.replace(r#"["main", "hotfix"]"#, r#"["**"]"#);
    config
        + "[[route]]\nname = \"website\"\nrepository = \"website\"\nbranches = [\"main\"]\n[[route.target]]\n\
           account = \"222222222222\"\nregion = \"us-east-1\"\npipeline = \"website\"\naction = \"Source\"\n\
           [access.accounts]\ntest = \"222222222222\"\nproduction = \"333333333333\"\n"
}

/// A commit that people can tell from others by its first digits.
fn commit(digits: &str) -> Revision {
    digits.repeat(40 / digits.len()).parse().unwrap()
}

async fn push(train: &Train, branch: &str, commit: Revision) {
    train.wait(Duration::from_mins(3)).await;
    train.function.point(branch, Some(commit));
    let (full, name) = (json!(format!("refs/heads/{branch}")).to_string(), json!(branch).to_string());
    let event = file("branch-created").replace("\"refs/heads/main\"", &full);
    train.function.handle(&event.replace(r#""main""#, &name)).await.unwrap();
}

async fn show(train: &Train, more: Value) -> String {
    let mut payload = more;
    payload["widgetContext"] = json!({"theme": "light", "timezone": {"offsetISO": "+09:00"}});
    let html = train.answer(payload).await;
    assert_safe(&html);
    html
}

/// Writes the last report of a target, without the moves of the train that it would lead to.
fn set_report(train: &Train, target: &str, state: &str, fields: &Value) {
    let account = train.function.account();
    let row = target_row(account, target).unwrap();
    let mut detail = report(target, &row, state, 0)["detail"].clone();
    for (name, value) in fields.as_object().unwrap() {
        detail[name] = value.clone();
    }
    let report = OrderReport::parse(&detail.to_string()).unwrap();
    let memory: &Memory = &account.ledger;
    let key = target::key(&target.parse().unwrap());
    let revision = memory.read::<TargetRow>(&key).now_or_never().unwrap().unwrap().map(|row| row.revision);
    let row = TargetRow { report: Some(report), ..row };
    memory.write(&key, &row, revision, "test").now_or_never().unwrap().unwrap();
}

/// The time this many minutes from now, as reports have it.
fn at(train: &Train, minutes: u64) -> String {
    sekisho_domain::timestamp::millis(train.function.account().now() + Duration::from_mins(minutes))
}

#[tokio::test(start_paused = true)]
async fn a_train_without_changes() {
    let train = Train::with(&config());
    assert_golden("trains-empty", &show(&train, json!({"widget": "trains"})).await);
}

/// What the picture in the documentation shows. The tests of the other widgets have the same time, and the same pipeline
/// `shop` in the account `production`.
#[tokio::test(start_paused = true)]
async fn a_train_on_its_way() {
    let names = "staging = \"222222222222\"\nproduction = \"333333333333\"\npartner = \"444444444444\"\n";
    let config = config();
    let (before, _) = config.split_once("test = ").unwrap();
    let train = Train::with(&format!("{before}{names}"));
    let shown = datetime!(2026-11-21 12:30 UTC);
    let at = |minutes| sekisho_domain::timestamp::millis(shown + time::Duration::minutes(minutes));
    let healthy = json!({"reason": "the alarms were quiet for 30 minutes"});
    for digits in ["0011aabb", "0123abcd"] {
        push(&train, "main", commit(digits)).await;
        for target in [ONE_BOX, TOKYO[0], TOKYO[1]] {
            train.report_with(target, "healthy", &healthy).await;
        }
        if digits == "0011aabb" {
            let promote = json!({"wave": "world", "revision": commit(digits), "reason": "the first version"});
            train.answer(request("promote", promote)).await;
            train.report_with(WORLD, "healthy", &healthy).await;
        }
    }
    push(&train, "main", commit("4567cdef")).await;
    train.report_with(ONE_BOX, "healthy", &healthy).await;
    push(&train, "main", commit("89ab0123")).await;
    let execution = "11111111-2222-3333-4444-555555555555";
    let failed = json!({
        "reason": "Deploy / Stack failed: the health check of the new tasks failed", "execution": execution,
        "good": commit("4567cdef"), "since": at(-14),
    });
    train.wait(Duration::from_mins(4)).await;
    train.report_with(ONE_BOX, "failed", &failed).await;
    let hold = request("hold", json!({"wave": "world", "reason": "no changes during the sale", "minutes": 600}));
    train.answer(hold).await;
    // The question takes a second.
    let asked = shown - time::Duration::seconds(1);
    train.wait((asked - train.function.account().now()).unsigned_abs()).await;
    let before = json!({"execution": execution, "good": commit("0123abcd"), "since": at(-180)});
    let with = |fields: Value| {
        let mut with = before.clone();
        with.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with
    };
    let baking = json!({
        "at": at(-10), "since": at(-10), "until": at(20), "reason": "the alarms are quiet",
    });
    set_report(&train, TOKYO[0], "baking", &with(baking));
    set_report(&train, TOKYO[1], "running", &with(json!({"at": at(-12), "reason": "the execution runs"})));
    set_report(&train, WORLD, "healthy", &json!({"at": at(-3_000), "since": at(-3_000)}));
    let html = show(&train, json!({"widget": "trains"})).await;
    for words in [
        "89ab0123",
        "condemned",
        "held",
        "no changes during the sale",
        "20m left",
        "baking",
        "deploys ",
        "healthy before: ",
        "Next is ",
        "closed",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert_golden("trains-ordinary", &html);
    let one = show(&train, json!({"route": "website"})).await;
    assert!(one.contains("website") && !one.contains("tokyo"), "{one}");
}

/// A hold of another branch, and one of a wave that a change was promoted to, hold no target.
#[tokio::test(start_paused = true)]
async fn a_target_that_gets_no_change_because_of_a_hold_is_held() {
    let is_held = async |hold: &Value, promotes: bool| {
        let train = Train::with(&config());
        push(&train, "main", commit("0123abcd")).await;
        train.answer(request("hold", hold.clone())).await;
        train.report(ONE_BOX, "healthy").await;
        if promotes {
            let promote = json!({"wave": "tokyo", "revision": commit("0123abcd"), "reason": "r"});
            train.answer(request("promote", promote)).await;
        }
        let html = show(&train, json!({"route": "shop"})).await;
        let cells: Vec<&str> = html.split(r#"<li class="cell "#).skip(1).collect();
        let cells = cells.into_iter().filter_map(|cell| Some(cell.split_once("</li>")?.0));
        cells.filter(|cell| cell.contains(r#"<span class="tag wait">held</span>"#)).count()
    };
    let (wave, train) = (json!({"wave": "tokyo", "reason": "r"}), json!({"reason": "r"}));
    let other = json!({"reason": "r", "ref": "refs/heads/hotfix"});
    assert_eq!(is_held(&wave, false).await, 2);
    assert_eq!(is_held(&train, false).await, 2);
    assert_eq!(is_held(&other, false).await, 0);
    assert_eq!(is_held(&wave, true).await, 0);
}

/// The reports of an earlier pipeline-starter say what runs, and not since when.
#[tokio::test(start_paused = true)]
async fn each_target_says_since_when_its_revision_runs_and_what_its_account_is_called() {
    let train = Train::with(&config());
    push(&train, "main", commit("0123abcd")).await;
    train.report(ONE_BOX, "healthy").await;
    let since = at(&train, 0);
    let html = show(&train, json!({"route": "shop"})).await;
    assert!(html.contains("runs <code>0123abcd</code>, since unknown"), "{html}");
    train.wait(Duration::from_hours(1)).await;
    let running = json!({"at": at(&train, 0), "good": commit("4567cdef")});
    set_report(&train, TOKYO[0], "running", &running);
    set_report(&train, TOKYO[1], "running", &json!({"at": at(&train, 0), "good": commit("4567cdef"), "since": since}));
    let mention = "execution f, which no order is known to have started, ended later";
    let healthy = json!({"at": at(&train, 0), "since": since, "reason": "quiet", "foreign_execution": "f"});
    set_report(&train, ONE_BOX, "healthy", &healthy);
    let html = show(&train, json!({"route": "shop"})).await;
    assert!(html.contains(mention) && !html.contains("quiet"), "{html}");
    assert!(html.contains("healthy before: <code>4567cdef</code>, since unknown"), "{html}");
    assert_eq!(html.matches("healthy before: <code>4567cdef</code>, since <time").count(), 1, "{html}");
    assert!(html.contains("in all 2 targets, since <time") && html.contains(" (1h), unknown in 1</p>"), "{html}");
    assert!(html.contains("runs <code>0123abcd</code>, since <time"), "a target that is healthy: {html}");
    for (name, account) in [("test", "222222222222"), ("production", "333333333333")] {
        assert!(html.contains(&format!(r#"<span class="name">{name}</span> <code>{account}</code>"#)), "{html}");
    }
    assert!(html.contains("<div><code>444444444444</code>"), "an account without a name: {html}");
    for target in TOKYO {
        set_report(&train, target, "running", &json!({"at": at(&train, 0)}));
    }
    let html = show(&train, json!({"route": "shop"})).await;
    assert!(!html.contains("Runs "), "a first revision does not run before it is deployed: {html}");
}

/// 1,000 targets in three waves.
fn huge() -> String {
    let mut config = "[[route]]\nname = \"shop\"\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for (wave, accounts) in [("one-box", 1..2), ("tokyo", 2..20), ("world", 20..501)] {
        let accounts: Vec<String> = accounts.map(|n: u64| format!("\"{n:012}\"")).collect();
        write!(
            config,
            "[[route.wave]]\nname = \"{wave}\"\ntolerate = 9\n[[route.wave.target]]\naccounts = [{}]\n\
             regions = [\"ap-northeast-1\", \"us-east-1\"]\npipeline = \"shop\"\naction = \"Source\"\n",
            accounts.join(", ")
        )
        .unwrap();
    }
    config
}

#[tokio::test(start_paused = true)]
async fn a_thousand_targets_are_counts_and_exceptions() {
    let train = Train::with(&huge());
    push(&train, "main", commit("0123abcd")).await;
    let ids = |accounts: std::ops::Range<u64>| {
        let regions = ["ap-northeast-1", "us-east-1"];
        accounts.flat_map(move |n| regions.map(|region| format!("{n:012}/{region}/shop"))).collect::<Vec<String>>()
    };
    for target in ids(1..2).iter().chain(&ids(2..20)) {
        train.report(target, "healthy").await;
    }
    let world = ids(20..501);
    assert_eq!(world.len() + 38, 1_000);
    for (index, target) in world.iter().enumerate() {
        let state = match index {
            7 | 8 => "failed",
            70..100 => "unknown",
            100..400 => "running",
            _ => "healthy",
        };
        set_report(&train, target, state, &json!({"at": at(&train, 0), "reason": format!("reason of {index}")}));
    }
    let html = show(&train, json!({})).await;
    assert!(html.contains("630 healthy") && html.contains("300 deploying") && html.contains("30 unknown"), "{html}");
    assert!(html.contains("reason of 7") && !html.contains("reason of 200"), "{html}");
    assert!(html.len() < 60_000, "{}", html.len());
    assert_golden("trains-huge", &html);
}

#[tokio::test(start_paused = true)]
async fn text_of_strangers_stays_text() {
    let train = Train::with(&config());
    let branch = format!("<script>alert(1)</script>&\"'\u{202e}{}", "x".repeat(200));
    let hostile = format!("{HOSTILE} {}", long());
    push(&train, "main", commit("4567cdef")).await;
    train.report_with(ONE_BOX, "failed", &json!({"reason": hostile})).await;
    push(&train, &branch, commit("0123abcd")).await;
    let fields = json!({
        "execution": hostile, "foreign_execution": hostile, "reason": hostile, "at": at(&train, 0),
        "until": at(&train, 30),
    });
    set_report(&train, ONE_BOX, "baking", &fields);
    train.answer(request("hold", json!({"reason": HOSTILE, "ref": format!("refs/heads/{branch}")}))).await;
    train.answer(request("hold", json!({"wave": "tokyo", "reason": long()}))).await;
    train.answer(request("rollback", json!({"wave": "one-box", "reason": format!("{HOSTILE}{HOSTILE}")}))).await;
    write_unreadable(train.function.account(), WORLD);
    let html = show(&train, json!({})).await;
    assert!(html.contains("&lt;script&gt;") && html.contains(&"W".repeat(90)), "{html}");
    assert!(html.contains("cannot be read") && html.contains("ended later"), "{html}");
    assert_eq!(html.matches("reported failed: ").count(), 1, "{html}");
    assert_golden("trains-hostile", &html);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_widget_or_route_is_an_error() {
    let train = Train::new();
    for (payload, kind, words) in [
        (json!({"widget": "access", "widgetContext": {}}), "InvalidRequest", "no widget `access`"),
        (json!({"route": 7, "widgetContext": {}}), "InvalidRequest", "`route` is not text"),
        (json!({"route": "web", "widgetContext": {}}), "NotFound", "there is no route `web`"),
    ] {
        let (error, message) = train.error(payload).await;
        assert!(error == kind && message.contains(words), "{error}: {message}");
    }
    let text = train.answer(json!({"describe": true, "action": "hold"})).await;
    assert!(text.starts_with("# Sekisho: trains\n"), "{text}");
}

/// Whatever a payload holds besides, a widget is only shown.
#[tokio::test(start_paused = true)]
async fn a_widget_with_the_fields_of_an_action_is_only_shown() {
    let train = Train::new();
    push(&train, "main", commit("0123abcd")).await;
    let before = (train.function.account().ledger.rows(), train.codes());
    let html = show(&train, about("hold", "tokyo")).await;
    assert!(html.contains("0123abcd"));
    assert_eq!((train.function.account().ledger.rows(), train.codes()), before);
}
