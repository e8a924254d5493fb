//! Tests of the verdict on one object, for each state of the object, its keys and its bucket.

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::objects::{OBJECT, event, world_with};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, foreign, handle, key, under};

/// An object of the event `object-created`, and the expected verdict.
struct Case {
    name: &'static str,
    object: Version,
    /// Changes the world before the event.
    change: Box<dyn Fn(&World)>,
    repair: Repair,
    outcome: Outcome,
    /// A part of the reason that comes from the object, a key or a service.
    reason_part: &'static str,
    writes: u64,
}

/// A case that does not change the world, with `repair = "update"`.
fn case(name: &'static str, object: Version, outcome: Outcome, reason_part: &'static str) -> Case {
    let writes = u64::from(outcome == Outcome::Repaired);
    Case { name, object, change: Box::new(|_| {}), repair: Repair::Update, outcome, reason_part, writes }
}

impl Case {
    fn repair(self, repair: Repair) -> Self {
        Self { repair, ..self }
    }

    fn after(self, change: impl Fn(&World) + 'static) -> Self {
        Self { change: Box::new(change), ..self }
    }

    async fn assert(self) {
        let Self { name, object, change, repair, outcome, reason_part, writes } = self;
        let world = world_with(object);
        change(&world);
        let checker = world.checker(repair);
        let answer = handle(&checker, "r", &event("object-created")).await.unwrap();
        let decisions: Vec<_> = answer.decisions.iter().filter(|one| one.concerns.contains_key("object")).collect();
        let [decision] = decisions.as_slice() else { panic!("{name}: {:?}", answer.decisions) };
        assert_eq!(decision.outcome, outcome, "{name}: {}", decision.reason);
        assert!(decision.reason.contains(reason_part), "{name}: {}", decision.reason);
        assert_eq!(decision.concerns["object"], OBJECT);
        assert_eq!(decision.concerns["event"], "17793124-05d4-b198-2fde-7ededc63b103");
        assert_eq!(decision.concerns["writer"], "111111111111");
        // One notice contains all findings, and one row contains all decisions.
        let has_findings = answer.decisions.iter().any(|one| one.outcome.is_finding());
        assert_eq!(world.state().published.len(), usize::from(has_findings), "{name}");
        let rows =
            checker.ledger.rows().into_iter().filter(|(key, _)| key.pk.starts_with("decision#artifact-checker#"));
        assert_eq!(rows.count(), 1, "{name}");
        assert_eq!(world.state().bucket(BUCKET).writes, writes, "{name}");
        let operations = world.state().operations("s3");
        assert!(!operations.iter().any(|operation| operation.starts_with("Delete")), "{name}");
    }
}

fn hello(sse: Sse) -> Version {
    Version::new("hello", sse)
}

fn set_key_state(id: &'static str, state: &'static str) -> impl Fn(&World) {
    move |world| state.clone_into(&mut world.state().keys.get_mut(&key(id)).unwrap().state)
}

#[tokio::test(start_paused = true)]
async fn an_object_is_judged_by_its_encryption() {
    let cases = [
        case("right", hello(under("right")), Outcome::Compliant, ""),
        case("empty", Version::new("", under("right")), Outcome::Compliant, ""),
        case("dsse", hello(Sse::Dsse(key("right"))), Outcome::Compliant, ""),
        case("s3, update", hello(Sse::S3), Outcome::Repaired, "S3's own key"),
        case("s3, copy", hello(Sse::S3), Outcome::Repaired, "S3's own key").repair(Repair::Copy),
        case("s3, report", hello(Sse::S3), Outcome::Reported, "repair = \"report\"").repair(Repair::Report),
        case("other, update", hello(under("other")), Outcome::Repaired, "key/other"),
        case("other, copy", hello(under("other")), Outcome::Repaired, "key/other").repair(Repair::Copy),
        case("dsse, other", hello(Sse::Dsse(key("other"))), Outcome::Repaired, "DSSE"),
        case("foreign", hello(foreign()), Outcome::ForeignKey, "account 111111111111"),
        case("sse-c", hello(Sse::Customer), Outcome::Unverifiable, "SSE-C"),
        case("encrypted in a new way", hello(under("right")), Outcome::Unknown, "aws:fsx").after(|world| {
            world.script(|request| {
                let fsx = || Response::new(200).with("etag", "\"e\"").with("x-amz-server-side-encryption", "aws:fsx");
                matches!(request.operation.as_str(), "HeadObject" | "GetObject").then(fsx)
            });
        }),
    ];
    for case in cases {
        case.assert().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_is_judged_by_the_state_of_its_key() {
    let cases = [
        case("disabled", hello(under("right")), Outcome::KeyUnusable, "Disabled")
            .after(set_key_state("right", "Disabled")),
        case("being deleted", hello(under("other")), Outcome::KeyUnusable, "PendingDeletion")
            .after(set_key_state("other", "PendingDeletion")),
        case("deleted", hello(under("other")), Outcome::KeyUnusable, "key/other")
            .after(|world| drop(world.state().keys.remove(&key("other")))),
        case("right key not shown", hello(under("right")), Outcome::Unverifiable, "kms:DescribeKey")
            .after(|world| world.state().keys.get_mut(&key("right")).unwrap().shown = false),
    ];
    for case in cases {
        case.assert().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_archived_or_locked_object_is_repaired_only_if_that_is_safe() {
    let archived = |sse| Version { storage_class: Some("GLACIER".into()), ..hello(sse) };
    let locked = |sse| Version { locked: true, ..hello(sse) };
    let updated = case("archived, wrong, update", archived(Sse::S3), Outcome::NeedsRestore, "right key");
    let cases = [
        case("archived", archived(under("right")), Outcome::NeedsRestore, "right key"),
        // The update succeeds, but the object is archived, so the function cannot read it after the update.
        Case { writes: 1, ..updated },
        case("archived, wrong, copy", archived(Sse::S3), Outcome::NeedsRestore, "S3's own key").repair(Repair::Copy),
        case("locked, update", locked(Sse::S3), Outcome::Reported, "object lock"),
        case("locked, copy", locked(Sse::S3), Outcome::Reported, "object lock").repair(Repair::Copy),
    ];
    for case in cases {
        case.assert().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_s3_does_not_show_or_repair_has_a_verdict() {
    let denied = || Response::error(403, "AccessDenied", "explicit deny");
    let cases = [
        case("not readable", hello(under("right")), Outcome::Unverifiable, "kms:Decrypt")
            .after(|world| world.state().buckets.get_mut(BUCKET).unwrap().reads_denied = true),
        case("update refused", hello(Sse::S3), Outcome::Repaired, "")
            .after(|world| world.state().buckets.get_mut(BUCKET).unwrap().updates_denied = true),
        case("update refused, and no copy wanted", hello(Sse::S3), Outcome::Reported, "update-only")
            .repair(Repair::UpdateOnly)
            .after(|world| world.state().buckets.get_mut(BUCKET).unwrap().updates_denied = true),
        case("copy refused", hello(Sse::S3), Outcome::Reported, "AccessDenied: explicit deny")
            .repair(Repair::Copy)
            .after(move |world| world.answer_operation("CopyObject", denied)),
        case("gone", hello(under("right")), Outcome::Gone, "")
            .after(|world| world.state().buckets.get_mut(BUCKET).unwrap().objects.clear()),
        case("delete marker", Version { delete_marker: true, ..hello(Sse::S3) }, Outcome::Gone, "delete marker"),
        case("not shown", hello(under("right")), Outcome::Unverifiable, "403")
            .after(|world| "999999999999".clone_into(&mut world.state().buckets.get_mut(BUCKET).unwrap().owner)),
        case("elsewhere", hello(under("right")), Outcome::Unknown, "301")
            .after(|world| world.answer_every("s3", || Response::new(301))),
    ];
    for case in cases {
        case.assert().await;
    }
}

/// KMS moves a multi-Region key to this state for some seconds, in which the key works.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_being_updated_works() {
    let updating = |id| set_key_state(id, "Updating");
    let cases = [
        case("right key", hello(under("right")), Outcome::Compliant, "").after(updating("right")),
        case("to the right key", hello(Sse::S3), Outcome::Repaired, "").after(updating("right")),
        case("from a wrong key", hello(under("other")), Outcome::Repaired, "").after(updating("other")),
    ];
    for case in cases {
        case.assert().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_400_without_a_reason_is_explained_by_a_get_and_not_taken_for_sse_c() {
    let world = world_with(hello(under("other")));
    world.script(|request| {
        let expired = || Response::error(400, "ExpiredToken", "The provided token has expired.");
        matches!(request.operation.as_str(), "HeadObject" | "GetObject").then(expired)
    });
    let decision = crate::objects::decide(&world, Repair::Copy, "object-created").await;
    assert!(decision.reason.contains("ExpiredToken") && !decision.reason.contains("SSE-C"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_sdk_cannot_send_is_unknown() {
    let event = crate::world::created(BUCKET, " ", None);
    let answer = handle(&World::new().checker(Repair::Copy), "r", &event).await.unwrap();
    assert_eq!(crate::objects::only(answer).outcome, Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_compliant_object_takes_two_calls_besides_its_record() {
    let world = world_with(hello(under("right")));
    world.declare_pipelines(&[("shop", BUCKET, Some("alias/artifacts"))]);
    let decision = crate::objects::decide(&world, Repair::Copy, "object-created").await;
    assert_eq!(decision.outcome, Outcome::Compliant);
    let mut operations: Vec<String> = world.state().requests.iter().map(|one| one.operation.clone()).collect();
    operations.sort();
    assert_eq!(operations, ["DescribeKey", "GetObject"]);
}
