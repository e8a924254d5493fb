//! Properties of every plan, for all configurations, requests, clocks and existing policies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sekisho_domain::access::{Access, Minutes};
use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use temp_access::error::Error;
use temp_access::plan::{EarlierAttempt, Effect, InlinePolicy, Plan, Recorded, Terms, has_ended, plan};
use temp_access::policy::{self, Reading};
use temp_access::principal::{Kind, Principal};
use temp_access::request::Grant;
use temp_access::window::{LEEWAY, Window};
use time::{Duration, OffsetDateTime};

fn access(default: u32, max: u32, actions: &[String], mfa: bool, ips: bool) -> Access {
    let actions = serde_json::to_string(actions).unwrap();
    let ips = if ips { r#"["203.0.113.0/24", "2001:db8::/32"]"# } else { "[]" };
    let text = format!(
        "[access]\ndefault_minutes = {default}\nmax_minutes = {max}\ndefault_profile = \"a\"\n\
         [access.profiles.a]\nstatements = [{{ actions = [\"*\"], resources = [\"*\"] }}]\n\
         [access.profiles.b]\nrequire_mfa = {mfa}\nsource_ips = {ips}\n\
         statements = [{{ actions = {actions}, resources = [\"*\"] }}, \
         {{ actions = [\"s3:Get*\"], resources = [\"arn:aws:s3:::a/*\", \"arn:aws:s3:::b/*\"] }}]"
    );
    Document::parse("sekisho.toml", &text).unwrap().access().unwrap()
}

/// An existing policy. Times are in seconds; `start` is relative to the time of the plan.
#[derive(Debug, Clone)]
enum Existing {
    Grant { start: i64, length: i64, padding: usize },
    Foreign { padding: usize },
}

impl Existing {
    fn document(&self, now: OffsetDateTime) -> String {
        match self {
            Self::Grant { start, length, padding } => {
                let at = |seconds| timestamp::seconds(now + Duration::seconds(seconds));
                json!({"Version": "2012-10-17", "Id": "x".repeat(*padding), "Statement": [{
                    "Effect": "Allow", "Action": "*", "Resource": "*",
                    "Condition": {
                        "DateGreaterThan": {"aws:CurrentTime": at(*start)},
                        "DateLessThan": {"aws:CurrentTime": at(start + length)},
                    },
                }]})
            }
            Self::Foreign { padding } => json!({
                "Id": "y".repeat(*padding), "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"},
            }),
        }
        .to_string()
    }
}

fn existing() -> impl Strategy<Value = Existing> {
    let grant = (-80_000_i64..600, 1_i64..90_000, 0_usize..1_200);
    prop_oneof![
        3 => grant.prop_map(|(start, length, padding)| Existing::Grant { start, length, padding }),
        1 => (0_usize..1_200).prop_map(|padding| Existing::Foreign { padding }),
    ]
}

/// Everything that a plan depends on.
#[derive(Debug)]
struct Input {
    access: Access,
    grant: Grant,
    inline: Vec<InlinePolicy>,
    earlier: EarlierAttempt,
    now: OffsetDateTime,
}

prop_compose! {
    fn configuration()(
        (max, default) in (1_u32..=10_080).prop_flat_map(|max| (Just(max), 1..=max)),
        (mfa, ips) in any::<(bool, bool)>(),
        actions in prop::collection::vec("[a-z]{2,8}:[A-Z][a-z]{2,12}\\*?", 1..60),
    ) -> Access {
        access(default, max, &actions, mfa, ips)
    }
}

prop_compose! {
    fn input()(
        access in configuration(),
        minutes in prop::option::of(1_u64..=12_000),
        profile in prop::option::of(prop::sample::select(vec!["a", "b"])),
        role in any::<bool>(),
        policies in prop::collection::btree_map(
            prop::sample::select(vec!["sekisho-a", "sekisho-b", "sekisho-old", "sekisho-older", "theirs", "other"]),
            existing(),
            0..5,
        ),
        seconds in 1_700_000_000_i64..2_500_000_000,
        nanos in 0_u32..1_000_000_000,
        earlier in prop::option::of((0_i64..7_200, 1_i64..28_800)),
    ) -> Input {
        let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap().replace_nanosecond(nanos).unwrap();
        let grant = Grant {
            principal: Principal::new(if role { Kind::Role } else { Kind::User }, "somebody").unwrap(),
            minutes,
            from: None,
            profile: profile.map(str::to_owned),
            reason: Some("must not be in the policy: 障害".to_owned()),
            dry_run: false,
        };
        // temp-access itself wrote the intent, so the intent lasts no longer than the configuration allows.
        let longest = access.max_minutes.duration();
        let earlier = earlier.map_or(EarlierAttempt::None, |(ago, length)| {
            let start = now.replace_nanosecond(0).unwrap() - Duration::seconds(ago);
            EarlierAttempt::Intended(Window { start, end: start + Duration::seconds(length).min(longest) })
        });
        Input { inline: inline(policies, now), access, grant, earlier, now }
    }
}

fn inline(policies: BTreeMap<&str, Existing>, now: OffsetDateTime) -> Vec<InlinePolicy> {
    let policies = policies.into_iter();
    policies.map(|(name, one)| InlinePolicy { name: name.to_owned(), document: one.document(now) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_plan_keeps_every_promise(input in input()) {
        let Input { access, grant, inline, earlier, now } = &input;
        let terms = match Terms::of(grant, access) {
            Ok(terms) => terms,
            Err(error) => {
                prop_assert!(grant.minutes.unwrap() > u64::from(access.max_minutes.get()), "{error}");
                let is_too_long = matches!(error, Error::TooLong { .. });
                prop_assert!(is_too_long);
                return Ok(());
            }
        };
        match plan(&terms, inline, &Recorded { earlier: *earlier, ..Recorded::default() }, *now) {
            Ok(plan) => {
                check_access(&plan, &input)?;
                if plan.puts {
                    check_size(&plan, &input)?;
                    check_document(&plan, &input)?;
                } else {
                    prop_assert!(plan.remove.is_empty());
                    prop_assert_eq!(plan.effect, Effect::Keeps);
                }
            }
            Err(error) => check_error(&error, &terms, &input)?,
        }
    }
}

/// A request is refused only for a reason that is true.
fn check_error(error: &Error, terms: &Terms<'_>, input: &Input) -> Result<(), TestCaseError> {
    match error {
        Error::TooLarge { size, .. } => {
            // Even if all ended policies were removed, the policies would not fit.
            let others = input.inline.iter().filter(|one| one.name != terms.policy() && !has_ended(one, input.now));
            let others: usize = others.map(|one| policy::size(&one.document)).sum();
            prop_assert!(*size > terms.principal.kind().policy_limit() && *size > others);
        }
        Error::ChainOver { again, .. } => {
            // The last chain is still in IAM, ended less than rest_minutes ago, and is as long as it may be.
            let existing = input.inline.iter().find(|one| one.name == terms.policy()).unwrap();
            let Reading::Grant(ended) = policy::read(&existing.document) else { panic!("foreign") };
            prop_assert!(!ended.is_live(input.now) && ended.start + terms.longest.duration() <= input.now);
            prop_assert!(*again == ended.end + Duration::minutes(30) && input.now < *again);
        }
        Error::Refused(_) => {
            // The policy is not ours, the access of it begins only later, or the request was carried out before.
            let existing = input.inline.iter().find(|one| one.name == terms.policy());
            let is_true = existing.is_some_and(|one| match policy::read(&one.document) {
                Reading::Grant(window) => window.is_scheduled(input.now),
                Reading::OpenEnded(_) | Reading::DenyOnly => true,
            });
            prop_assert!(is_true || input.earlier != EarlierAttempt::None);
        }
        other => return Err(TestCaseError::fail(other.to_string())),
    }
    Ok(())
}

/// A plan gives access, never shortens it, and removes only ended policies of ours.
fn check_access(plan: &Plan<'_>, input: &Input) -> Result<(), TestCaseError> {
    prop_assert!(plan.window.is_live(input.now));
    let existing = input.inline.iter().find(|one| one.name == plan.policy);
    if let Some(Reading::Grant(live)) = existing.map(|one| policy::read(&one.document))
        && live.is_live(input.now)
    {
        prop_assert!(plan.window.end >= live.end, "a grant shortened access");
        prop_assert_ne!(plan.effect, Effect::Grants);
    }
    for name in &plan.remove {
        prop_assert_ne!(name, &plan.policy);
        let removed = input.inline.iter().find(|one| one.name == *name).unwrap();
        prop_assert!(has_ended(removed, input.now) && name.starts_with("sekisho-"), "{name} is foreign or live");
    }
    Ok(())
}

/// All policies together fit, and the plan states their size.
fn check_size(plan: &Plan<'_>, input: &Input) -> Result<(), TestCaseError> {
    let kept = input.inline.iter().filter(|one| one.name != plan.policy && !plan.remove.contains(&one.name));
    let kept: usize = kept.map(|one| policy::size(&one.document)).sum();
    prop_assert_eq!(plan.size, kept + policy::size(&plan.document));
    prop_assert!(plan.size <= plan.terms.principal.kind().policy_limit());
    Ok(())
}

/// Every statement of the policy has the window and the profile's conditions.
fn check_document(plan: &Plan<'_>, input: &Input) -> Result<(), TestCaseError> {
    let (document, profile) = (&plan.document, plan.terms.allows);
    prop_assert!(document.chars().all(|c| c.is_ascii_graphic()), "{document}");
    let written: Value = serde_json::from_str(document).unwrap();
    let statements = written["Statement"].as_array().unwrap();
    prop_assert_eq!(statements.len(), profile.statements.len());
    for statement in statements {
        prop_assert_eq!(&statement["Effect"], "Allow");
        let time = |operator: &str| {
            let text = statement["Condition"].get(operator)?["aws:CurrentTime"].as_str()?;
            timestamp::parse_seconds(text)
        };
        // What has begun has a leeway, which is over. What begins later has none.
        let start = time("DateGreaterThanEquals").or_else(|| Some(time("DateGreaterThan")? + LEEWAY)).unwrap();
        prop_assert_eq!(time("DateGreaterThanEquals").is_some(), input.now < start);
        prop_assert_eq!(start, plan.window.start);
        prop_assert_eq!(time("DateLessThan").unwrap(), plan.window.end);
        let is_live = input.inline.iter().any(|one| {
            matches!(
                policy::read(&one.document), Reading::Grant(window) if window.end == plan.window.end
            )
        });
        prop_assert!(is_live || plan.window.end - start <= input.access.max_minutes.duration());
        prop_assert_eq!(statement["Condition"].get("Bool").is_some(), profile.require_mfa);
        prop_assert_eq!(statement["Condition"].get("IpAddress").is_some(), !profile.source_ips.is_empty());
    }
    prop_assert_eq!(policy::read(document), Reading::Grant(plan.window));
    Ok(())
}

#[test]
fn a_changed_profile_is_written_with_the_same_end() {
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let old = access(60, 480, &["s3:List*".to_owned()], false, false);
    let new = access(60, 480, &["s3:List*".to_owned()], true, false);
    let grant = Grant {
        principal: Principal::new(Kind::User, "a").unwrap(),
        minutes: Some(1),
        from: None,
        profile: Some("b".to_owned()),
        reason: None,
        dry_run: false,
    };
    let window = Window { start: now, end: now + Minutes::try_from(30).unwrap().duration() };
    let document = policy::document(&old.profiles[&"b".parse().unwrap()], window, window.start);
    let inline = [InlinePolicy { name: "sekisho-b".to_owned(), document }];
    let (old, new) = (Terms::of(&grant, &old).unwrap(), Terms::of(&grant, &new).unwrap());
    let kept = plan(&old, &inline, &Recorded::default(), now).unwrap();
    assert_eq!((kept.effect, kept.puts, kept.window), (Effect::Keeps, false, window));
    let changed = plan(&new, &inline, &Recorded::default(), now).unwrap();
    assert_eq!((changed.effect, changed.puts, changed.window), (Effect::Keeps, true, window));
    assert!(changed.document.contains("aws:MultiFactorAuthPresent"));
    // Without MFA, the policy would allow more than the live one.
    let inline = [InlinePolicy { name: "sekisho-b".to_owned(), document: changed.document }];
    let widened = plan(&old, &inline, &Recorded::default(), now).unwrap();
    assert_eq!((widened.effect, widened.puts, widened.window), (Effect::Widens { from: window.end }, true, window));
}

/// An end that Sekisho never writes is ours only if the ledger has it.
#[test]
fn a_live_policy_with_an_end_in_the_distant_future_is_not_replaced() {
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let access = access(60, 480, &["s3:List*".to_owned()], false, false);
    let grant = Grant {
        principal: Principal::new(Kind::User, "a").unwrap(),
        minutes: Some(1),
        from: None,
        profile: None,
        reason: None,
        dry_run: false,
    };
    let terms = Terms::of(&grant, &access).unwrap();
    let furthest = now + Duration::days(14) + Duration::minutes(480);
    for (end, is_ours) in [(furthest, true), (furthest + Duration::SECOND, false)] {
        let document = policy::document(terms.allows, Window { start: now, end }, now);
        let inline = [InlinePolicy { name: "sekisho-a".to_owned(), document }];
        assert_eq!(plan(&terms, &inline, &Recorded::default(), now).is_ok(), is_ours, "{end}");
        let recorded = Recorded { end: Some(end), ..Recorded::default() };
        assert_eq!(plan(&terms, &inline, &recorded, now).unwrap().window.end, end);
    }
}
