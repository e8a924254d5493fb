//! Tests of buckets other than the function's own, which the configuration has to name before anything in them changes.

use artifact_checker::{Cache, Outcome};
use sekisho_domain::artifacts::{BucketArtifacts, Repair};
use sekisho_domain::decision::Decision;

use crate::objects::{OBJECT, VERSION, decide, event, only};
use crate::ranges::LONG;
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, count};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, key, under};

/// The bucket of the example event `object-created-in-another-bucket`.
const OTHER_BUCKET: &str = "somebody-elses-bucket";
/// A bucket that no pipeline of this account uses.
const CENTRAL: &str = "central-store";

/// A world in which a pipeline stores artifacts in another bucket, under the key `other`. The bucket also has an object
/// of another team, under that team's own key.
fn world_with_another_bucket() -> World {
    let world = World::new();
    world.state().buckets.insert(OTHER_BUCKET.to_owned(), Bucket::new(ACCOUNT));
    let version = Version { id: VERSION.to_owned(), ..Version::new("hello", Sse::S3) };
    world.state().put(OTHER_BUCKET, OBJECT, version);
    world.state().put(OTHER_BUCKET, "data/of/another/team", Version::new("data", under("right")));
    world.declare_pipelines(&[("shop", OTHER_BUCKET, Some(&key("other")))]);
    world
}

#[tokio::test(start_paused = true)]
async fn without_an_entry_in_the_configuration_another_bucket_is_only_reported_on() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = world_with_another_bucket();
        let decision = decide(&world, repair, "object-created-in-another-bucket").await;
        assert_eq!(decision.outcome, Outcome::Reported, "{}", decision.reason);
        assert!(decision.reason.contains("[artifacts.buckets.somebody-elses-bucket]"), "{}", decision.reason);
        let answer = handle(&world.checker(repair), "r", SCHEDULE).await.unwrap();
        assert_eq!(count(&answer, Outcome::Reported), 2, "{:?}", answer.decisions);
        assert_eq!(world.state().bucket(OTHER_BUCKET).writes, 0);
    }
}

/// Otherwise, the end of its sweep would fail until nobody tries it any more.
#[tokio::test(start_paused = true)]
async fn a_sweep_ends_although_the_last_pipeline_of_its_bucket_is_gone() {
    let world = world_with_another_bucket();
    world.state().buckets.get_mut(OTHER_BUCKET).unwrap().default_key = Some(key("other"));
    for n in 0..300 {
        world.state().put(OTHER_BUCKET, &format!("shop/{n}"), Version::new("x", under("other")));
    }
    let mut checker = world.checker(Repair::Update);
    checker.settings.alone = 0;
    let request = format!(r#"{{"action":"sweep","bucket":"{OTHER_BUCKET}"}}"#);
    assert!(!handle(&checker, "r", &request).await.unwrap().sweeps[0].complete);
    world.declare_pipelines(&[]);
    checker.cache = Cache::default();
    let message = receive(&world).unwrap();
    let ended = deliver(&checker, "worker", &message, LONG).await.unwrap();
    let report = ended.sweeps.last().unwrap();
    assert_eq!((report.range, report.complete, report.objects), (None, true, 302));
    // Nobody can begin another one.
    assert!(handle(&checker, "r2", &request).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_entry_in_the_configuration_decides_how_its_bucket_is_repaired_and_who_reads_it() {
    const ROLE: &str = "arn:aws:iam::444444444444:role/reader";
    const OWN_ROLE: &str = "arn:aws:iam::222222222222:role/build";
    let world = world_with_another_bucket();
    world.state().put(BUCKET, OBJECT, Version { id: VERSION.to_owned(), ..Version::new("hello", under("right")) });
    let mut checker = world.checker(Repair::Report);
    checker.settings.artifacts.consumer_role = Some(OWN_ROLE.to_owned());
    let entry = BucketArtifacts { repair: Repair::Copy, consumer_role: Some(ROLE.to_owned()), partitions: Vec::new() };
    checker.settings.artifacts.buckets.insert(OTHER_BUCKET.to_owned(), entry);
    let other = event("object-created-in-another-bucket");
    let decision = only(handle(&checker, "r", &other).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert_eq!(world.state().bucket(OTHER_BUCKET).latest(OBJECT).unwrap().sse, under("other"));
    world.state().not_for_consumer.insert(key("other"));
    let decision = only(handle(&checker, "r2", &other).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unverifiable);
    assert!(decision.reason.contains(ROLE), "{}", decision.reason);
    assert_eq!(std::mem::take(&mut world.state().assumed), [ROLE, ROLE]);
    // The section `[artifacts]` decides about the function's own bucket.
    let decision = only(handle(&checker, "r3", &event("object-created")).await.unwrap());
    assert_eq!(
        (decision.outcome, std::mem::take(&mut world.state().assumed)),
        (Outcome::Compliant, vec![OWN_ROLE.to_owned()])
    );
    world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(OBJECT).unwrap()[0].sse = Sse::S3;
    let decision = only(handle(&checker, "r4", &event("object-created")).await.unwrap());
    assert_eq!((decision.outcome, world.state().bucket(BUCKET).writes), (Outcome::Reported, 0));
}

#[tokio::test(start_paused = true)]
async fn if_a_pipeline_is_hidden_another_bucket_is_only_reported_on() {
    let world = world_with_another_bucket();
    let pipeline = crate::world::pipeline("hidden", OTHER_BUCKET, Some(&key("right")));
    world.state().pipelines.as_mut().unwrap().insert("hidden".to_owned(), pipeline);
    world.script(|request| {
        let is_hidden = request.operation == "GetPipeline" && request.body.contains("hidden");
        is_hidden.then(|| Response::json_error("AccessDenied", "no"))
    });
    let answer = handle(&world.checker_of(Repair::Update, &[OTHER_BUCKET]), "r", SCHEDULE).await.unwrap();
    assert_eq!(count(&answer, Outcome::Reported), 2, "{:?}", answer.decisions);
    assert_eq!(world.state().bucket(OTHER_BUCKET).writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_central_bucket_that_no_pipeline_of_this_account_uses_is_checked_if_it_has_an_entry() {
    let world = world_with_another_bucket();
    world.declare_pipelines(&[]);
    for (name, owner) in [(CENTRAL, ACCOUNT), ("central-store-elsewhere", crate::world::OTHER_ACCOUNT)] {
        let mut bucket = Bucket::new(owner);
        bucket.default_key = Some(key("right"));
        world.state().buckets.insert(name.to_owned(), bucket);
        world.state().put(name, OBJECT, Version::new("hello", under("other")));
    }
    let sweep = format!(r#"{{"action":"sweep","bucket":"{CENTRAL}"}}"#);
    assert!(handle(&world.checker(Repair::Update), "r", &sweep).await.is_err());
    let checker = world.checker_of(Repair::Update, &[CENTRAL, "central-store-elsewhere"]);
    let answer = handle(&checker, "r", SCHEDULE).await.unwrap();
    // The other account has the same configuration, and sweeps its bucket itself.
    let swept: Vec<&str> = answer.sweeps.iter().map(|sweep| sweep.bucket.as_str()).collect();
    assert_eq!(swept, [BUCKET, CENTRAL], "{:?}", answer.decisions);
    assert_eq!(world.state().bucket(CENTRAL).latest(OBJECT).unwrap().sse, under("right"));
    let written = crate::world::created(CENTRAL, OBJECT, None);
    let decision = only(handle(&checker, "r2", &written).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Compliant, "{}", decision.reason);
}

/// S3 refuses a bucket of another account in the same way, but only a bucket of this account was ever swept.
#[tokio::test(start_paused = true)]
async fn a_central_bucket_that_s3_does_not_show_is_reported() {
    type Answer = fn() -> Response;
    let denied: Answer = || Response::error(403, "AccessDenied", "Access Denied");
    let cases: [(&str, bool, Answer, Outcome); 3] = [
        ("SlowDown", false, Response::slow_down, Outcome::Unknown),
        ("SlowDown", true, Response::slow_down, Outcome::Unknown),
        ("s3:ListBucket and s3:ListBucketVersions on", true, denied, Outcome::Unverifiable),
    ];
    for (part, was_swept, answer, expected) in cases {
        let world = World::new();
        let mut bucket = Bucket::new(ACCOUNT);
        bucket.default_key = Some(key("right"));
        world.state().buckets.insert(CENTRAL.to_owned(), bucket);
        world.state().put(CENTRAL, OBJECT, Version::new("hello", under("right")));
        let checker = world.checker_of(Repair::Update, &[CENTRAL]);
        if was_swept {
            assert_eq!(handle(&checker, "before", SCHEDULE).await.unwrap().sweeps.len(), 2);
        }
        let is_listing = |operation: &str, path: &str| operation == "ListObjectsV2" && path.starts_with(CENTRAL);
        world.script(move |request| is_listing(&request.operation, &request.path).then(answer));
        let swept = handle(&checker, "r", SCHEDULE).await.unwrap();
        let of_central = |one: &&Decision<Outcome>| one.concerns.get("bucket").is_some_and(|it| it == CENTRAL);
        let found = swept.decisions.iter().find(of_central).unwrap_or_else(|| panic!("{part}: {swept:?}"));
        assert_eq!((found.outcome, found.reason.contains(part)), (expected, true), "{}", found.reason);
        assert!(world.state().published.concat().contains(part), "{part}");
    }
}

/// The right key of the bucket is unclear while CodePipeline shows no pipeline, but this passes.
#[tokio::test(start_paused = true)]
async fn a_passing_error_of_codepipeline_sets_no_range_aside() {
    let world = world_with_another_bucket();
    let mut bucket = Bucket::new(ACCOUNT).paged(50);
    bucket.default_key = Some(key("other"));
    world.state().buckets.insert(OTHER_BUCKET.to_owned(), bucket);
    for n in 0..300 {
        world.state().put(OTHER_BUCKET, &format!("object-{n:03}"), Version::new("hello", under("other")));
    }
    let mut checker = world.checker_of(Repair::Update, &[OTHER_BUCKET]);
    checker.settings.alone = 100;
    handle(&checker, "r", &format!(r#"{{"action":"sweep","bucket":"{OTHER_BUCKET}"}}"#)).await.unwrap();
    for operation in ["ListPipelines", "GetPipeline"] {
        checker.cache = Cache::default();
        world.answer_operation(operation, || Response::json_error("ThrottlingException", "Rate exceeded"));
        let message = receive(&world).unwrap();
        let answer = deliver(&checker, operation, &message, LONG).await.unwrap();
        assert!(answer.decisions[0].reason.contains("another attempt follows"), "{:?}", answer.decisions);
    }
    world.state().script = None;
    let mut reports = Vec::new();
    while let Some(message) = receive(&world) {
        reports.extend(deliver(&checker, "later", &message, LONG).await.unwrap().sweeps);
    }
    let report = reports.iter().find(|report| report.range.is_none()).expect("the sweep has ended");
    assert_eq!((report.objects, report.unchecked_ranges), (300, 0));
}
