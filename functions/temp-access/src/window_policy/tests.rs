use proptest::prelude::*;
use sekisho_domain::access::{Access, Profile};
use sekisho_domain::config::Document;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);
const CONFIG: &str = include_str!("../../../../config/sekisho.toml");
/// Three statements in the manner of a profile of one service.
const THREE: &str = r#"
    [access]
    default_minutes = 60
    max_minutes     = 480
    default_profile = "admin"
    [access.profiles.admin]
    statements = [{ actions = ["*"], resources = ["*"] }]
    [access.profiles.three]
    statements = [
        { actions = ["ec2:Describe*", "ec2:RebootInstances"], resources = ["arn:aws:ec2:*:333333333333:instance/*"] },
        { actions = ["logs:Get*", "logs:StartQuery", "logs:FilterLogEvents"], resources = ["*"] },
        { actions = ["ssm:StartSession"], resources = ["arn:aws:ec2:*:333333333333:instance/*"] },
    ]
    source_ips = ["203.0.113.0/24"]
"#;

fn access(text: &str) -> Access {
    Document::parse("sekisho.toml", text).unwrap().access().unwrap()
}

fn profile(text: &str, name: &str) -> Profile {
    access(text).profiles[&name.parse().unwrap()].clone()
}

fn window(start: i64, end: i64) -> Window {
    Window { start: NOW + Duration::minutes(start), end: NOW + Duration::minutes(end) }
}

fn user(number: usize) -> String {
    format!("0123456789-11111111-2222-3333-4444-{number:012}")
}

fn write(after: u64, shares: &[Share]) -> String {
    super::write(after, shares, NOW)
}

fn of(user: &str, profile: &Profile, window: Window) -> Vec<Share> {
    shares(user, &policy::document(profile, window, window.start))
}

#[test]
fn a_statement_has_the_person_and_the_window_and_the_profiles_conditions() {
    let document = write(7, &of("u-1", &profile(THREE, "admin"), window(0, 60)));
    let expected = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "After7", "Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {
            "StringEquals": {"identitystore:UserId": "u-1"},
            "DateGreaterThan": {"aws:CurrentTime": "2026-11-21T20:43:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-11-21T21:45:00Z"},
        },
    }]});
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), expected);
    let three = write(7, &of("u-1", &profile(THREE, "three"), window(0, 60)));
    assert_eq!(three.matches("\"aws:SourceIp\":\"203.0.113.0/24\"").count(), 3);
}

#[test]
fn what_was_written_is_read_back() {
    let mut all = Vec::new();
    for (number, name) in ["admin", "three", "admin"].into_iter().enumerate() {
        all.extend(of(&user(number), &profile(THREE, name), window(0, 60)));
    }
    let document = write(7, &all);
    // The two administrators share a statement.
    assert_eq!(document.matches("\"Effect\"").count(), 4);
    let read = read(&document);
    assert_eq!(read.after, Some(7));
    assert_eq!(read.shares.len(), all.len());
    assert!(all.iter().all(|share| read.shares.contains(share)));
    let theirs: Vec<Share> = read.shares.into_iter().filter(|share| share.user == user(1)).collect();
    let same: Value = serde_json::from_str(&inline_policy(&theirs, NOW)).unwrap();
    assert_eq!(
        same,
        serde_json::from_str::<Value>(&policy::document(&profile(THREE, "three"), window(0, 60), NOW)).unwrap()
    );
}

/// What begins later has no leeway in front, and is read back as the same window before and after its start.
#[test]
fn a_grant_that_begins_later_is_written_as_it_is() {
    let shares = of("u-1", &profile(THREE, "admin"), window(10, 60));
    let times = |now| {
        let document = super::write(7, &shares, now);
        assert_eq!(read(&document).shares, shares);
        serde_json::from_str::<Value>(&document).unwrap()["Statement"][0]["Condition"].clone()
    };
    let later = times(NOW);
    assert_eq!(later["DateGreaterThanEquals"], json!({"aws:CurrentTime": "2026-11-21T20:55:00Z"}));
    assert!(later.get("DateGreaterThan").is_none());
    let begun = times(NOW + Duration::minutes(10));
    assert_eq!(begun["DateGreaterThan"], json!({"aws:CurrentTime": "2026-11-21T20:53:00Z"}));
}

#[test]
fn statements_are_shared_only_by_the_same_profile_start_and_end() {
    let (admin, three) = (profile(THREE, "admin"), profile(THREE, "three"));
    let count = |shares: &[Vec<Share>]| write(0, &shares.concat()).matches("\"Effect\"").count();
    assert_eq!(count(&[of("a", &admin, window(0, 60)), of("b", &admin, window(0, 60))]), 1);
    assert_eq!(count(&[of("a", &admin, window(0, 60)), of("b", &admin, window(0, 61))]), 2);
    assert_eq!(count(&[of("a", &admin, window(0, 60)), of("b", &admin, window(1, 60))]), 2);
    assert_eq!(count(&[of("a", &admin, window(0, 60)), of("b", &three, window(0, 60))]), 4);
}

#[test]
fn an_empty_policy_allows_nothing_and_says_after_which_version_it_was_written() {
    let empty = read(&write(12, &[]));
    assert_eq!(empty, Version { after: Some(12), shares: Vec::new() });
    assert!(write(12, &[]).contains("1970-01-01T00:00:00Z"));
}

#[test]
fn a_statement_that_sekisho_would_not_write_is_left_out() {
    let times = r#""DateGreaterThan":{"aws:CurrentTime":"2026-11-21T20:43:00Z"},"DateLessThan":{"aws:CurrentTime":"2026-11-21T21:45:00Z"}"#;
    let statement = |effect: &str, condition: &str| {
        format!(r#"{{"Statement":[{{"Effect":"{effect}","Action":"*","Resource":"*","Condition":{{{condition}}}}}]}}"#)
    };
    let user = r#""StringEquals":{"identitystore:UserId":"u"}"#;
    assert_eq!(read(&statement("Allow", &format!("{user},{times}"))).shares.len(), 1);
    for (effect, condition) in [
        ("Deny", format!("{user},{times}")),
        ("Allow", times.to_owned()),
        ("Allow", user.to_owned()),
        ("Allow", format!(r#"{times},"StringLike":{{"identitystore:UserId":"*"}}"#)),
        ("Allow", format!(r#"{times},"StringEquals":{{"identitystore:UserId":"u","aws:x":"y"}}"#)),
    ] {
        assert_eq!(read(&statement(effect, &condition)).shares, [], "{condition}");
    }
    for text in ["", "{}", r#"{"Statement":{}}"#] {
        assert_eq!(read(text), Version { after: None, shares: Vec::new() });
    }
}

/// docs/access.md names these numbers.
#[test]
fn so_many_people_fit() {
    let most = |profile: &Profile| {
        let all = |count: usize| {
            (0..count).flat_map(|number| of(&user(number), profile, window(0, 60 + number.try_into().unwrap_or(0))))
        };
        (1..100).find(|count| !fits(&write(99, &all(*count).collect::<Vec<_>>()))).unwrap() - 1
    };
    assert_eq!(user(0).len(), 47);
    assert_eq!(most(&profile(THREE, "admin")), 22);
    assert_eq!(most(&profile(CONFIG, "read-only")), 13);
    assert_eq!(most(&profile(THREE, "three")), 5);
}

fn holding(user: &str, name: &str, window: Window) -> Holder {
    let any = Window { start: NOW, end: NOW };
    let statements = statements(&policy::document(&profile(THREE, name), any, NOW));
    Holder { user: user.to_owned(), profile: name.to_owned(), window, statements }
}

#[test]
fn only_live_grants_of_the_ledger_stay() {
    let admin = profile(THREE, "admin");
    let all: Vec<Share> = [
        of("live", &admin, window(0, 60)),
        of("ended", &admin, window(-60, 0)),
        of("revoked", &admin, window(0, 60)),
        of("shorter", &admin, window(0, 60)),
        of("longer", &admin, window(0, 60)),
        of("again", &admin, window(-10, 60)),
        of("inside", &admin, window(20, 60)),
    ]
    .concat();
    let holders = [
        holding("live", "admin", window(0, 60)),
        holding("ended", "admin", window(-60, 0)),
        holding("shorter", "admin", window(0, 30)),
        holding("longer", "admin", window(0, 90)),
        holding("again", "admin", window(-5, 90)),
        holding("inside", "admin", window(0, 60)),
    ];
    let kept = |holders| {
        let after = apply(&all, &Change::Repair, holders, NOW);
        after.into_iter().map(|share| share.user).collect::<Vec<_>>()
    };
    assert_eq!(kept(Some(&holders)), ["live", "longer", "inside"]);
    assert_eq!(kept(None), ["live", "revoked", "shorter", "longer", "again", "inside"]);
}

#[test]
fn a_change_concerns_one_profile_of_one_person() {
    let (admin, three) = (profile(THREE, "admin"), profile(THREE, "three"));
    let all = [of("a", &admin, window(0, 60)), of("a", &three, window(0, 60)), of("b", &admin, window(0, 60))].concat();
    // Both shares are in both windows, so only the statements tell them apart.
    let holders = [
        holding("a", "three", window(0, 90)),
        holding("a", "admin", window(0, 60)),
        holding("b", "admin", window(0, 60)),
    ];
    let remove = Change::Remove { user: "a".to_owned(), profile: "admin".to_owned() };
    assert_eq!(
        apply(&all, &remove, Some(&holders), NOW),
        [of("a", &three, window(0, 60)), of("b", &admin, window(0, 60))].concat()
    );
    assert_eq!(apply(&all, &remove, None, NOW), of("b", &admin, window(0, 60)));
    let longer = of("a", &three, window(0, 90));
    let put = Change::Put { user: "a".to_owned(), profile: "three".to_owned(), shares: longer.clone() };
    let after = apply(&all, &put, Some(&holders), NOW);
    assert_eq!(after, [of("a", &admin, window(0, 60)), of("b", &admin, window(0, 60)), longer].concat());
}

/// Whatever is configured by now: nothing here knows it.
#[test]
fn a_grant_inside_the_window_of_another_one_is_not_taken_for_a_part_of_it() {
    let (admin, three) = (profile(THREE, "admin"), profile(THREE, "three"));
    let (wide, narrow) = (of("a", &admin, window(0, 240)), of("a", &three, window(60, 120)));
    let all = [wide.clone(), narrow.clone()].concat();
    let names = ["admin", "three"];
    // The narrow grant is being extended, or that failed.
    for end in [120, 180] {
        let holders = [holding("a", "admin", window(0, 240)), holding("a", "three", window(60, end))];
        let remove = |name: &str| Change::Remove { user: "a".to_owned(), profile: name.to_owned() };
        let after = |name, holders: &[Holder]| apply(&all, &remove(name), Some(holders), NOW);
        assert_eq!(names.map(|name| after(name, &holders)), [narrow.clone(), wide.clone()]);
        assert_eq!(profiles(&narrow[0], &holders, &[]), ["three"]);
    }
}

/// The rows of live grants have these digests, so the same statement must have the same one in each version.
#[test]
fn the_digest_of_a_statement_never_changes() {
    let digests = |name| statements(&policy::document(&profile(THREE, name), window(0, 60), NOW));
    assert_eq!(digests("admin"), ["1676d2f7e7bca5c3998b0cf0f9dbee31"]);
    let three =
        ["c887478b019cd7e9d5f4bf94c941462d", "a371bc27dfde63937f57c3762d72080f", "5430b4ed4db5f26ae2cecf5350624263"];
    assert_eq!(digests("three"), three);
}

#[test]
fn room_is_kept_for_grants_that_begin_before_the_end() {
    let admin = profile(THREE, "admin");
    let mut all: Vec<Share> = Vec::new();
    for number in 0..15 {
        all.extend(of(&user(number), &admin, window(0, 60 + i64::try_from(number).unwrap())));
    }
    assert_eq!(overfull(&all, window(0, 60), NOW), None);
    for number in 15..30 {
        all.extend(of(&user(number), &admin, window(100, 200 + i64::try_from(number).unwrap())));
    }
    // The later ones enter ten minutes before their start, when the earlier ones have left.
    assert_eq!(overfull(&all, window(0, 60), NOW), None);
    for number in 30..40 {
        all.extend(of(&user(number), &admin, window(0, 120 + i64::try_from(number).unwrap())));
    }
    let crowd = overfull(&all, window(0, 160), NOW).unwrap();
    assert_eq!(crowd.len(), 25);
    assert_eq!(next_to_leave(&crowd, &user(0)), Some((user(1).as_str(), NOW + Duration::minutes(61))));
}

proptest! {
    /// Writers that overlook each other's versions, each of which makes one change to the version that it knows. Whoever
    /// reads all versions finds every change.
    #[test]
    fn nothing_that_was_overlooked_is_lost(lags in proptest::collection::vec((0_usize..3, any::<bool>()), 1..5)) {
        let admin = profile(THREE, "admin");
        let first: Vec<Share> = (0..4).flat_map(|number| of(&user(number), &admin, window(0, 60))).collect();
        let mut versions = BTreeMap::from([(1, Version { after: None, shares: first })]);
        let mut expected: Vec<String> = (0..4).map(user).collect();
        for (number, (lag, removes)) in lags.into_iter().enumerate() {
            let id = u64::try_from(versions.len()).unwrap() + 1;
            let known = id.saturating_sub(1 + u64::try_from(lag).unwrap()).max(1);
            let mut shares = effective(&versions, known);
            if removes {
                shares.retain(|share| share.user != user(number));
                expected.retain(|name| *name != user(number));
            } else {
                shares.extend(of(&user(10 + number), &admin, window(0, 60)));
                expected.push(user(10 + number));
            }
            versions.insert(id, read(&write(known, &shares)));
        }
        let last = u64::try_from(versions.len()).unwrap();
        prop_assert_eq!(missing(&versions, last), None);
        let mut found: Vec<String> = effective(&versions, last).into_iter().map(|share| share.user).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_statement_with_two_beginnings_is_none_of_ours() {
    let shares = |operators: &[&str]| {
        let mut conditions = json!({BEFORE: {CURRENT_TIME: "2026-11-21T23:45:00Z"}, EQUALS: {USER_ID: "one"}});
        for operator in operators {
            conditions[*operator] = json!({CURRENT_TIME: "2026-11-21T20:45:00Z"});
        }
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": conditions});
        read(&json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()).shares.len()
    };
    assert_eq!((shares(&[FROM]), shares(&[AFTER]), shares(&[FROM, AFTER]), shares(&[])), (1, 1, 0, 0));
}
