//! Tests with random buckets, faults and dead invocations. They check what a sweep must change and what it must not
//! change.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sekisho_domain::artifacts::Repair;

use crate::sweeps::{SWEEP, SWEEP_VERSIONS};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Fault, Key, World, foreign, handle, key, under};

/// A version of a random object.
#[derive(Debug, Clone)]
struct RandomVersion {
    sse: Sse,
    locked: bool,
    archived: bool,
}

fn random_version() -> impl Strategy<Value = RandomVersion> {
    let sse = prop_oneof![
        3 => Just(under("right")),
        3 => Just(Sse::S3),
        3 => Just(under("other")),
        1 => Just(Sse::Dsse(key("other"))),
        1 => Just(Sse::Dsse(key("right"))),
        1 => Just(foreign()),
        1 => Just(Sse::Customer),
        1 => Just(under("disabled")),
        1 => Just(under("deleted")),
    ];
    (sse, prop::bool::weighted(0.15), prop::bool::weighted(0.1)).prop_map(|(sse, locked, archived)| RandomVersion {
        sse,
        locked,
        archived,
    })
}

/// A random bucket and what happens during its sweep.
#[derive(Debug, Clone)]
struct Case {
    /// The key, the versions, and whether a delete marker is the latest.
    objects: Vec<(String, Vec<RandomVersion>, bool)>,
    versioned: bool,
    updates_denied: bool,
    repair: Repair,
    /// Whether the sweep checks all versions.
    versions: bool,
    /// The faults, each with the number of the request to S3 that the fault affects.
    faults: Vec<(usize, Fault)>,
    /// The time in milliseconds after which the first invocation dies; `None` if it does not die.
    kill_after: Option<u64>,
    /// How many objects a page of the listing has.
    page: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let name = prop_oneof!["[a-z]{1,3}", "[a-z +%?&=é関\u{1}]{0,5}[a-z+%?&=é関\u{1}]"];
    let object = (name, prop::collection::vec(random_version(), 1..4), prop::bool::weighted(0.1));
    let fault = prop_oneof![Just(Fault::SlowDown), Just(Fault::Internal), Just(Fault::AnswerLost)];
    (
        prop::collection::vec(object, 1..15),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.3),
        prop_oneof![Just(Repair::Update), Just(Repair::Copy)],
        any::<bool>(),
        prop::collection::vec((2..200_usize, fault), 0..15),
        prop::option::of(1..400_u64),
        1..8_usize,
    )
        .prop_map(|(objects, versioned, updates_denied, repair, versions, faults, kill_after, page)| Case {
            objects,
            versioned,
            updates_denied,
            repair,
            versions,
            faults,
            kill_after,
            page,
        })
}

/// Whether the rules allow a repair of this version.
fn can_be_repaired(case: &Case, version: &Version, latest: bool) -> bool {
    let wrong = match &version.sse {
        Sse::S3 => true,
        Sse::Kms(arn) | Sse::Dsse(arn) => *arn == key("other"),
        Sse::Customer => false,
    };
    let archived = version.storage_class.is_some();
    let update = case.repair == Repair::Update && !case.updates_denied && !matches!(version.sse, Sse::Dsse(_));
    wrong && !version.locked && !version.delete_marker && (latest || case.versions) && (update || latest && !archived)
}

/// The encryption after a repair: the right key, and as many layers as before.
fn after_repair(sse: &Sse) -> Sse {
    match sse {
        Sse::Dsse(_) => Sse::Dsse(key("right")),
        _ => under("right"),
    }
}

/// The world before the sweep.
fn world_of(case: &Case) -> World {
    let world = World::new();
    let mut state = world.state();
    state.keys.insert(key("disabled"), Key::new("Disabled"));
    let mut bucket = Bucket::new(ACCOUNT).paged(case.page);
    bucket.versioned = case.versioned;
    bucket.updates_denied = case.updates_denied;
    state.buckets.insert(BUCKET.to_owned(), bucket);
    for (name, versions, deleted) in &case.objects {
        for (n, random) in versions.iter().enumerate() {
            let mut version = Version::new(&format!("{name} {n}"), random.sse.clone());
            version.locked = random.locked;
            version.storage_class = random.archived.then(|| "GLACIER".to_owned());
            version.metadata.insert("x-amz-meta-n".to_owned(), n.to_string());
            state.put(BUCKET, name, version);
        }
        if *deleted && case.versioned {
            state.put(BUCKET, name, Version { delete_marker: true, ..Version::new("", Sse::S3) });
        }
    }
    state.latency = Duration::from_millis(5);
    state.faults = case.faults.iter().copied().collect();
    drop(state);
    world
}

async fn sweep(case: Case) -> Result<(), TestCaseError> {
    let world = world_of(&case);
    let before = world.state().bucket(BUCKET).objects.clone();
    let checker = world.checker(case.repair);
    let payload = if case.versions { SWEEP_VERSIONS } else { SWEEP };
    if let Some(after) = case.kill_after {
        let _ = tokio::time::timeout(Duration::from_millis(after), handle(&checker, "r", payload)).await;
    }
    // Several faults in a row fail an invocation, and Lambda repeats it twice.
    let mut answer = handle(&checker, "r", payload).await;
    for _ in 0..2 {
        if answer.is_err() {
            answer = handle(&checker, "r", payload).await;
        }
    }
    let answer = answer.unwrap();
    prop_assert!(answer.sweeps[0].complete, "{:?}", answer.decisions);
    let after = world.state().bucket(BUCKET).clone();
    let repairable = compare(&case, &before, &after)?;
    let lost = case.faults.iter().filter(|(_, fault)| *fault == Fault::AnswerLost).count() as u64;
    prop_assert!(after.writes <= repairable + lost, "{} writes for {repairable}", after.writes);
    Ok(())
}

/// Compares the bucket before and after the sweep. Returns the number of versions that may be repaired.
fn compare(case: &Case, before: &BTreeMap<String, Vec<Version>>, after: &Bucket) -> Result<u64, TestCaseError> {
    let mut repairable = 0;
    for (name, old) in before {
        let new = &after.objects[name];
        let (was, is) = (old.last().unwrap(), new.last().unwrap());
        // The latest version must still have the same content and metadata.
        prop_assert_eq!(
            (&is.content, &is.metadata, is.delete_marker),
            (&was.content, &was.metadata, was.delete_marker)
        );
        for version in old {
            let is_latest = version.id == was.id;
            let now = new.iter().find(|now| now.id == version.id).unwrap();
            compare_version(case, version, now)?;
            if can_be_repaired(case, version, is_latest) {
                repairable += 1;
                let repaired = if is_latest { is } else { now };
                prop_assert_eq!(&repaired.sse, &after_repair(&version.sse), "{:?}", version);
            }
        }
    }
    Ok(repairable)
}

/// A sweep changes nothing about a version but its encryption and `ETag`, and leaves a locked version alone.
fn compare_version(case: &Case, version: &Version, now: &Version) -> Result<(), TestCaseError> {
    let mut expected = version.clone();
    let copies = case.repair == Repair::Copy && case.versioned;
    if !version.locked && !copies && now.sse == after_repair(&version.sse) {
        expected.sse = now.sse.clone();
        expected.etag.clone_from(&now.etag);
    }
    prop_assert_eq!(now, &expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_sweep_repairs_what_the_rules_allow_and_changes_nothing_else(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(sweep(case))?;
    }
}
