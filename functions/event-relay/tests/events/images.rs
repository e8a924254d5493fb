//! Images: events of ECR, and what a reconcile finds in its repositories.

use std::collections::BTreeSet;
use std::time::Duration;

use event_relay::Outcome::{Baseline, Duplicate, Failed, Filtered, Ignored, Ordered, Refused, Relayed};
use event_relay::branch::{self, BranchRow};
use event_relay::image::Image;
use event_relay::world::World;
use futures_util::FutureExt;
use sekisho_domain::change::{RefKind, Revision};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::service_error::Kind;
use sekisho_ledger::{Memory, Row, Store};
use serde_json::{Value, json};

use crate::function::{Function, file, outcomes};
use crate::targets::{SHOP_2, target_row};

pub const IMAGES: &str = "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";

/// A route with these keys to one target.
pub fn route(keys: &str) -> String {
    format!(
        "[[route]]\n{keys}\n[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\n\
         pipeline = \"shop\"\naction = \"Image\"\n"
    )
}

/// The function with a route for all images of `shop`, whose first look is done.
async fn looked() -> Function {
    let function = Function::with(&route("image = \"shop\"\ntags = [\"**\"]"));
    function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    function.file("schedule").await.unwrap();
    function.calls();
    function.ledger_calls();
    function
}

/// The digest of the n-th image.
pub fn digest(n: u64) -> Revision {
    format!("sha256:{n:064x}").parse().unwrap()
}

/// The n-th image, which was pushed in the n-th second.
pub fn image(n: u64, tags: &[&str]) -> Image {
    Image {
        digest: digest(n),
        tags: tags.iter().map(ToString::to_string).collect(),
        pushed: i64::try_from(n).unwrap() * 1_000,
        manifest: Some(OCI.to_owned()),
        artifact: Some(CONFIGURATION.to_owned()),
        has_subject: false,
        is_archived: false,
    }
}

/// Pushes an image to `shop`. Its tags point at no other image any more.
pub fn push(function: &Function, image: Image) {
    let mut repositories = function.account().images.borrow_mut();
    let images = repositories.entry("shop".to_owned()).or_default();
    for other in images.iter_mut() {
        other.tags.retain(|tag| !image.tags.contains(tag));
    }
    images.push(image);
}

/// Deletes the n-th image.
pub fn delete(function: &Function, n: u64) {
    function.account().images.borrow_mut().get_mut("shop").unwrap().retain(|image| image.digest != digest(n));
}

/// Archives the n-th image of `shop`: ECR keeps and describes it, but nobody can pull it.
pub fn archive(function: &Function, n: u64) {
    let mut repositories = function.account().images.borrow_mut();
    let images = repositories.get_mut("shop").unwrap();
    images.iter_mut().find(|image| image.digest == digest(n)).unwrap().is_archived = true;
}

/// The event about a push of this tag.
pub fn pushed(tag: &str) -> String {
    file("image-pushed").replace("v1.2.0", tag)
}

async fn decide(function: &Function, tag: &str) -> event_relay::Outcome {
    let decisions = function.handle(&pushed(tag)).await.unwrap().decisions;
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    decisions[0].outcome
}

/// The images in the orders that the buses accepted since the test last called this function.
fn ordered(function: &Function) -> Vec<Revision> {
    function.accepted().into_iter().map(|(_, event)| event.change.revision).collect()
}

fn row(function: &Function, tag: &str) -> Option<Row<BranchRow>> {
    let key = branch::key(&IMAGES.parse().unwrap(), &format!("refs/images/{tag}").parse().unwrap());
    let memory: &Memory = &function.account().ledger;
    memory.read(&key).now_or_never().unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_digest_that_a_tag_has_is_relayed_whatever_the_event_says() {
    for event in ["image-pushed", "image-with-spoofed-digest", "image-replicated"] {
        let function = looked().await;
        push(&function, image(1, &["v1.2.0"]));
        let decision = function.decide(event).await;
        let concerns = ["repository", "ref", "digest"].map(|key| decision.concerns[key].clone());
        assert_eq!(decision.outcome, Relayed, "{event}");
        assert_eq!(concerns, [IMAGES.to_owned(), "refs/images/v1.2.0".to_owned(), digest(1).to_string()]);
        assert_eq!(decision.concerns.get("commit"), None);
        let accepted = function.accepted();
        let change = &accepted[0].1.change;
        assert_eq!((accepted.len(), change.kind, &change.revision), (1, RefKind::Image, &digest(1)));
        assert_eq!(function.decide(event).await.outcome, Duplicate, "{event}");
        assert_eq!(ordered(&function), []);
    }
}

/// The bench measures the same.
#[tokio::test(start_paused = true)]
async fn a_new_image_costs_no_more_calls_than_a_commit() {
    let git = Function::with(&route("repository = \"shop\"\nbranches = [\"main\"]"));
    git.file("schedule").await.unwrap();
    git.point("main", Some(crate::function::commit(2)));
    git.calls();
    git.ledger_calls();
    assert_eq!(git.decide("branch-updated").await.outcome, Relayed);

    let function = looked().await;
    push(&function, image(1, &["v1.2.0"]));
    assert_eq!(function.decide("image-pushed").await.outcome, Relayed);
    assert_eq!(function.calls(), ["DescribeImages shop v1.2.0", "PutEvents ap-northeast-1 1"]);
    assert_eq!(git.calls().len(), 2);
    assert_eq!(function.ledger_calls(), git.ledger_calls());
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_gone_or_archived_is_ignored() {
    let function = looked().await;
    assert_eq!(decide(&function, "v1").await, Ignored);
    push(&function, Image { is_archived: true, ..image(1, &["v1"]) });
    assert_eq!(decide(&function, "v1").await, Ignored);
    function.account().images.borrow_mut().clear();
    assert_eq!(decide(&function, "v1").await, Ignored);
    assert_eq!((ordered(&function), row(&function, "v1")), (vec![], None));
}

/// The events of a pipeline that signs what it builds.
#[tokio::test(start_paused = true)]
async fn an_index_with_a_signature_a_chart_and_an_untagged_push_lead_to_one_order() {
    let function = looked().await;
    let index = "application/vnd.oci.image.index.v1+json";
    let chart = "application/vnd.cncf.helm.config.v1+json";
    let (signature, referrer) = (format!("sha256-{:064x}.sig", 1), format!("sha256-{:064x}", 1));
    push(&function, image(5, &[]));
    push(&function, Image { manifest: Some(index.to_owned()), artifact: None, ..image(1, &["v1"]) });
    push(&function, image(2, &[&signature, &referrer]));
    push(&function, Image { has_subject: true, ..image(3, &["attested"]) });
    push(&function, Image { artifact: Some(chart.to_owned()), ..image(4, &["chart"]) });
    assert_eq!(function.decide("image-pushed-without-tag").await.outcome, Ignored);
    for (tag, outcome) in [
        ("v1", Relayed),
        (signature.as_str(), Ignored),
        (&referrer, Ignored),
        ("attested", Ignored),
        ("chart", Ignored),
    ] {
        assert_eq!(decide(&function, tag).await, outcome, "{tag}");
    }
    function.file("schedule").await.unwrap();
    assert_eq!(ordered(&function), [digest(1)]);
    assert_eq!(row(&function, "chart"), None);

    // The same without any event.
    let lost = looked().await;
    *lost.account().images.borrow_mut() = function.account().images.borrow().clone();
    let decisions = lost.file("schedule").await.unwrap().decisions;
    assert_eq!((outcomes(&decisions), ordered(&lost)), (vec![Relayed], vec![digest(1)]), "{decisions:?}");

    // An image gets the tag of the chart.
    push(&function, image(6, &["chart"]));
    assert_eq!(decide(&function, "chart").await, Relayed);
    push(&lost, image(6, &["chart"]));
    lost.file("schedule").await.unwrap();
    assert_eq!((ordered(&function), ordered(&lost)), (vec![digest(6)], vec![digest(6)]));
}

#[tokio::test(start_paused = true)]
async fn the_reconcile_orders_the_images_whose_events_were_lost_and_the_newest_push_wins() {
    let function = looked().await;
    for (n, tag) in [(3, "c"), (1, "b"), (2, "a")] {
        push(&function, image(n, &[tag]));
    }
    function.set_call_time(Duration::from_millis(20));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed; 3], "{decisions:?}");
    assert_eq!(ordered(&function), [digest(1), digest(2), digest(3)]);
    let sequences: Vec<u64> = ["b", "a", "c"].iter().map(|tag| row(&function, tag).unwrap().state.sequence).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
    assert_eq!(target_row(function.account(), SHOP_2).unwrap().order.unwrap().change.revision, digest(3));
    function.calls();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((outcomes(&decisions), ordered(&function)), (vec![Duplicate], vec![]));
    assert_eq!(function.calls(), ["DescribeImages shop"]);
}

/// A team gets its own repository under a glob of a route. Only what was copied into it with an earlier time is old.
#[tokio::test(start_paused = true)]
async fn an_image_whose_event_was_lost_is_deployed_also_from_a_repository_that_is_younger_than_its_route() {
    for (keys, looks) in [("image = \"shop\"\ntags = [\"v*\"]", 1), ("image = \"sh*\"\ntags = [\"v*\"]", 3)] {
        let function = Function::with(&route(keys));
        let wait = async |minutes| function.account().sleep(Duration::from_mins(minutes)).await;
        for _ in 0..2 {
            function.file("schedule").await.unwrap();
            wait(5).await;
        }
        let now = epoch_millis(function.account().now());
        function.account().image_repositories_created.set(now);
        push(&function, image(1, &["v1"]));
        push(&function, Image { pushed: i64::try_from(now).unwrap(), ..image(2, &["v2"]) });
        let mut decisions = Vec::new();
        for _ in 0..looks {
            wait(5).await;
            decisions = function.file("schedule").await.unwrap().decisions;
        }
        assert_eq!(outcomes(&decisions), [Relayed, Baseline], "{keys}: {decisions:?}");
        assert_eq!(ordered(&function), [digest(2)], "{keys}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_tags_of_one_image_start_one_execution() {
    let function = looked().await;
    push(&function, image(1, &["v1", "latest"]));
    assert_eq!(decide(&function, "v1").await, Relayed);
    assert_eq!(decide(&function, "latest").await, Duplicate);
    assert_eq!(ordered(&function), [digest(1)]);
    push(&function, image(2, &["v2", "latest"]));
    let decisions = function.file("schedule").await.unwrap().decisions;
    // The other decision counts the second tag of the new image and the tag that did not move.
    assert_eq!(outcomes(&decisions), [Relayed, Duplicate], "{decisions:?}");
    assert_eq!(ordered(&function), [digest(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_tag_and_a_new_tag_on_an_older_image_are_new_changes() {
    let function = looked().await;
    for (n, tag, outcome) in [(1, "latest", Relayed), (2, "latest", Relayed)] {
        push(&function, image(n, &[tag]));
        assert_eq!(decide(&function, tag).await, outcome);
    }
    assert_eq!(ordered(&function), [digest(1), digest(2)]);
    function.account().images.borrow_mut().get_mut("shop").unwrap()[0].tags.push("back".to_owned());
    function.file("schedule").await.unwrap();
    assert_eq!(ordered(&function), [digest(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_deleted_expires_and_stops_nothing() {
    let function = looked().await;
    push(&function, image(1, &["v1"]));
    decide(&function, "v1").await;
    delete(&function, 1);
    function.file("schedule").await.unwrap();
    assert!(row(&function, "v1").unwrap().state.expires.is_some());
    assert_eq!(ordered(&function), [digest(1)]);
    assert_eq!(function.decide("image-deleted").await.outcome, Ignored);
}

#[tokio::test(start_paused = true)]
async fn a_glob_records_what_exists_and_a_literal_name_deploys_it() {
    for (keys, expected) in [
        ("image = \"shop\"\ntags = [\"v*\"]", Baseline),
        ("image = \"shop\"\ntags = [\"v1\"]", Relayed),
        ("image = \"shop\"\ntags = [\"v*\"]\nexisting = \"relay\"", Relayed),
    ] {
        let function = Function::with(&route(keys));
        push(&function, image(1, &["v1", "other"]));
        let decisions = function.file("schedule").await.unwrap().decisions;
        assert_eq!(outcomes(&decisions), [expected], "{keys}");
        assert_eq!(function.calls()[0], "DescribeImages shop");
        assert_eq!(row(&function, "other"), None);
    }
    // The event about an image that the first look recorded arrives late.
    let function = Function::with(&route("image = \"shop\"\ntags = [\"v*\"]"));
    push(&function, image(1, &["v1"]));
    function.file("schedule").await.unwrap();
    assert_eq!(decide(&function, "v1").await, Relayed);
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_another_registry_is_routed_only_by_its_literal_name() {
    for (keys, name, is_routed) in [
        ("image = \"**\"\ntags = [\"**\"]\nexisting = \"relay\"", "hub/nginx", false),
        ("image = \"hub/nginx\"\ntags = [\"**\"]\nexisting = \"relay\"", "hub/nginx", true),
        ("image = \"**\"\ntags = [\"**\"]\nexisting = \"relay\"", "hubble/api", true),
    ] {
        for is_event in [true, false] {
            let function = Function::with(&route(keys));
            function.account().cache_prefixes.borrow_mut().insert("hub".to_owned());
            function.account().images.borrow_mut().insert(name.to_owned(), vec![image(1, &["v1"])]);
            let event = pushed("v1").replace("\"shop\"", &format!("\"{name}\""));
            let event = if is_event { event } else { file("schedule") };
            if !is_event {
                // The first reconcile reads the rules about caches.
                function.file("schedule").await.unwrap();
            }
            let decisions = function.handle(&event).await.unwrap().decisions;
            assert_eq!(ordered(&function).len(), usize::from(is_routed), "{keys} {name}: {decisions:?}");
            let is_read = function.calls().iter().any(|call| call.starts_with("DescribeImages"));
            assert_eq!(is_read, is_routed, "{keys} {name}");
            if is_event && !is_routed {
                assert_eq!(outcomes(&decisions), [Filtered]);
            }
        }
    }
}

/// The reconcile continues with the repositories that need no list.
#[tokio::test(start_paused = true)]
async fn a_failure_of_ecr_does_not_keep_commits_from_their_reconcile() {
    let config = route("image = \"**\"\ntags = [\"**\"]") + &route("repository = \"shop\"\nbranches = [\"main\"]");
    let function = Function::with(&config.replacen("pipeline = \"shop\"", "pipeline = \"web\"", 1));
    function.account().ecr_fails.set(Some(Kind::Throttled));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Ignored], "{decisions:?}");
    function.handle(&pushed("v1")).await.unwrap_err();
}

/// The list may show the image that the tag had before another invocation relayed a newer one.
#[tokio::test(start_paused = true)]
async fn an_event_during_a_reconcile_is_not_undone_by_an_old_list() {
    let function = looked().await;
    push(&function, image(1, &["latest"]));
    decide(&function, "latest").await;
    push(&function, image(2, &["latest"]));
    // Another invocation writes the row after the list, before the order of the second image is written.
    let key = branch::key(&IMAGES.parse().unwrap(), &"refs/images/latest".parse().unwrap());
    *function.account().ledger.changed_row.borrow_mut() = Some(key);
    function.calls();
    function.file("schedule").await.unwrap();
    let calls: BTreeSet<String> = function.calls().into_iter().collect();
    assert!(calls.contains("DescribeImages shop latest"), "the head is read again: {calls:?}");
    assert_eq!(ordered(&function), [digest(1), digest(2)]);
}

#[tokio::test(start_paused = true)]
async fn explain_shows_the_plan_for_an_image() {
    let function = looked().await;
    push(&function, image(1, &["v1.2.0"]));
    let decision = function.decide("explain-image").await;
    assert_eq!((decision.outcome, decision.concerns["digest"].as_str()), (Relayed, digest(1).as_str()));
    assert_eq!(ordered(&function), []);
    let explained = function.handle(
        r#"{"action":"explain","event":{"version":"0","id":"1","detail-type":"Scheduled Event",
        "source":"aws.events","account":"111111111111","region":"ap-northeast-1","resources":[],"detail":{}}}"#,
    );
    let reason = explained.await.unwrap().decisions.remove(0).reason;
    assert!(reason.contains("every routed image tag of shop"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn resend_sends_no_image_that_was_deleted() {
    let function = looked().await;
    push(&function, image(1, &["v1"]));
    decide(&function, "v1").await;
    let resend = json!({"action": "resend", "route": "shop", "account": "222222222222"}).to_string();
    let answer = function.ask(&resend).await.unwrap();
    assert!(answer.contains("000000000000 v1 of shop"), "{answer}");
    assert_eq!(ordered(&function).len(), 2);
    for is_archived in [true, false] {
        function.account().images.borrow_mut().get_mut("shop").unwrap()[0].is_archived = true;
        if !is_archived {
            delete(&function, 1);
        }
        let error = function.ask(&resend).await.unwrap_err().to_string();
        assert!(error.contains("was deleted or archived"), "{error}");
    }
    assert_eq!(ordered(&function), []);
}

/// A target that joins a route gets the newest image, also of an earlier look.
#[tokio::test(start_paused = true)]
async fn a_target_that_joins_gets_the_newest_image() {
    let mut function = looked().await;
    push(&function, image(1, &["v1"]));
    decide(&function, "v1").await;
    function.accepted();
    let keys = "image = \"shop\"\ntags = [\"**\"]";
    let both = route(keys).replace("account = \"222222222222\"", "accounts = [\"222222222222\", \"333333333333\"]");
    function.relay.routes = crate::function::routes(&both);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(outcomes(&decisions).contains(&Ordered), "{decisions:?}");
    let accounts: Vec<String> = function.accepted().into_iter().map(|(account, _)| account).collect();
    assert_eq!(accounts, ["333333333333"]);
}

#[tokio::test(start_paused = true)]
async fn odd_names_are_refused() {
    let function = looked().await;
    for (what, value) in [("image-tag", "-v1"), ("image-tag", ""), ("image-tag", "ä"), ("repository-name", "..")] {
        let mut event: Value = serde_json::from_str(&file("image-pushed")).unwrap();
        event["detail"][what] = value.into();
        let decisions = function.handle(&event.to_string()).await.unwrap().decisions;
        assert_eq!(outcomes(&decisions), [Refused], "{what} {value}");
        assert!(decisions[0].reason.contains(what), "{decisions:?}");
    }
    assert_eq!(function.calls(), [""; 0]);
}

/// The same call would be denied again, so Lambda need not repeat the invocation.
#[tokio::test(start_paused = true)]
async fn a_denied_read_of_ecr_is_a_failed_decision() {
    let function = looked().await;
    push(&function, image(1, &["v1"]));
    function.account().ecr_fails.set(Some(Kind::Refused));
    for event in [pushed("v1"), file("schedule")] {
        let decisions = function.handle(&event).await.unwrap().decisions;
        assert_eq!(outcomes(&decisions), [Failed], "{decisions:?}");
        assert!(decisions[0].reason.contains("a call to ECR"), "{decisions:?}");
    }
    function.account().ecr_fails.set(None);
    assert_eq!(outcomes(&function.file("schedule").await.unwrap().decisions), [Relayed]);
}
