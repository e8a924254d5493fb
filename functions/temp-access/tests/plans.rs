//! What holds of every plan, whatever the configuration, the request, the clock and the policies that are there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail so")]

use proptest::prelude::*;
use sekisho_domain::access::{Access, Minutes};
use sekisho_domain::config::Document;
use serde_json::{Value, json};
use temp_access::error::Error;
use temp_access::plan::{EarlierAttempt, Effect, InlinePolicy, Terms, has_ended, plan};
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
         statements = [{{ actions = {actions}, resources = [\"*\"] }}, {{ actions = [\"s3:Get*\"], resources = [\"arn:aws:s3:::a/*\", \"arn:aws:s3:::b/*\"] }}]"
    );
    Document::parse("sekisho.toml", &text).unwrap().access().unwrap()
}

fn windowed(from: OffsetDateTime, start: i64, lasts: i64, padding: usize) -> String {
    let at = |seconds| sekisho_domain::timestamp::seconds(from + Duration::seconds(seconds));
    json!({"Version": "2012-10-17", "Id": "x".repeat(padding), "Statement": [{
        "Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {
            "DateGreaterThan": {"aws:CurrentTime": at(start)}, "DateLessThan": {"aws:CurrentTime": at(start + lasts)},
        },
    }]})
    .to_string()
}

#[derive(Debug, Clone)]
enum There {
    Window { start: i64, lasts: i64, padding: usize },
    Foreign { padding: usize },
}

fn there() -> impl Strategy<Value = There> {
    prop_oneof![
        3 => (-80_000_i64..600, 1_i64..90_000, 0_usize..1_200).prop_map(|(start, lasts, padding)| There::Window { start, lasts, padding }),
        1 => (0_usize..1_200).prop_map(|padding| There::Foreign { padding }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_plan_keeps_every_promise(
        (max, default) in (1_u32..=10_080).prop_flat_map(|max| (Just(max), 1..=max)),
        asked in prop::option::of(1_u64..=12_000),
        profile in prop::option::of(prop::sample::select(vec!["a", "b"])),
        role in any::<bool>(),
        (mfa, ips) in any::<(bool, bool)>(),
        actions in prop::collection::vec("[a-z]{2,8}:[A-Z][a-z]{2,12}\\*?", 1..60),
        policies in prop::collection::btree_map(
            prop::sample::select(vec!["sekisho-a", "sekisho-b", "sekisho-old", "sekisho-older", "theirs", "other"]), there(), 0..5,
        ),
        seconds in 1_700_000_000_i64..2_500_000_000,
        nanos in 0_u32..1_000_000_000,
        before in prop::option::of((0_i64..7_200, 1_i64..28_800)),
    ) {
        let access = access(default, max, &actions, mfa, ips);
        let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap().replace_nanosecond(nanos).unwrap();
        let kind = if role { Kind::Role } else { Kind::User };
        let grant = Grant {
            principal: Principal::new(kind, "somebody").unwrap(),
            minutes: asked,
            profile: profile.map(str::to_owned),
            reason: Some("must not be in the policy: 障害".to_owned()),
            dry_run: false,
        };
        let asked = match Terms::of(&grant, &access) {
            Ok(settled) => settled,
            Err(error) => {
                prop_assert!(asked.unwrap() > u64::from(max), "{error}");
                let too_long = matches!(error, Error::TooLong { .. });
                prop_assert!(too_long);
                return Ok(());
            }
        };
        let inline: Vec<InlinePolicy> = policies.iter().map(|(name, there)| InlinePolicy {
            name: (*name).to_owned(),
            document: match there {
                There::Window { start, lasts, padding } => windowed(now, *start, *lasts, *padding),
                There::Foreign { padding } => json!({"Id": "y".repeat(*padding), "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}).to_string(),
            },
        }).collect();
        // An intent was written by this code, within what may be granted.
        let before = before.map_or(EarlierAttempt::None, |(ago, lasts)| {
            let start = now.replace_nanosecond(0).unwrap() - Duration::seconds(ago);
            EarlierAttempt::Intended(Window { start, end: start + Duration::seconds(lasts.min(i64::from(max) * 60)) })
        });
        let existing = inline.iter().find(|one| one.name == asked.policy());
        let live = existing.and_then(|one| match policy::read(&one.document) {
            Reading::Grant(window) if window.is_live(now) => Some(window),
            _ => None,
        });
        let limit = kind.policy_limit();
        let plan = match plan(&asked, &inline, None, before, now) {
            Ok(plan) => plan,
            Err(Error::TooLarge { size, .. }) => {
                // Not even with room made; nothing is written.
                let others: usize = inline.iter()
                    .filter(|one| one.name != asked.policy() && !has_ended(one, now))
                    .map(|one| policy::size(&one.document)).sum();
                prop_assert!(size > limit && size > others);
                return Ok(());
            }
            Err(Error::Refused(_)) => {
                let foreign = existing.is_some_and(|one| matches!(policy::read(&one.document), Reading::Foreign(_)));
                prop_assert!(foreign || before != EarlierAttempt::None);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };

        prop_assert!(plan.window.is_live(now));
        if let Some(live) = live {
            prop_assert!(plan.window.end >= live.end, "a grant shortened access");
            prop_assert_ne!(plan.effect, Effect::Grants);
        }
        for name in &plan.remove {
            prop_assert_ne!(name, &plan.policy);
            let gone = inline.iter().find(|one| one.name == *name).unwrap();
            prop_assert!(has_ended(gone, now) && name.starts_with("sekisho-"), "{name} is foreign or live");
        }
        if !plan.puts {
            prop_assert!(plan.remove.is_empty());
            prop_assert_eq!(plan.effect, Effect::Keeps);
            return Ok(());
        }
        let document = &plan.document;
        let kept: usize = inline.iter()
            .filter(|one| one.name != plan.policy && !plan.remove.contains(&one.name))
            .map(|one| policy::size(&one.document)).sum();
        prop_assert_eq!(plan.size, kept + policy::size(document));
        prop_assert!(plan.size <= limit);
        prop_assert!(document.chars().all(|c| c.is_ascii_graphic()), "{document}");
        let written: Value = serde_json::from_str(document).unwrap();
        let statements = written["Statement"].as_array().unwrap();
        prop_assert_eq!(statements.len(), asked.allows.statements.len());
        for statement in statements {
            prop_assert_eq!(&statement["Effect"], "Allow");
            let time = |operator: &str| {
                let text = statement["Condition"][operator]["aws:CurrentTime"].as_str().unwrap();
                sekisho_domain::timestamp::parse_seconds(text).unwrap()
            };
            let (after, until) = (time("DateGreaterThan"), time("DateLessThan"));
            prop_assert!(until - after <= Duration::minutes(i64::from(max)) + LEEWAY);
            prop_assert!(after < now);
            prop_assert_eq!(until, plan.window.end);
            prop_assert_eq!(statement["Condition"].get("Bool").is_some(), asked.allows.require_mfa);
            prop_assert_eq!(statement["Condition"].get("IpAddress").is_some(), !asked.allows.source_ips.is_empty());
        }
        prop_assert_eq!(policy::read(document), Reading::Grant(plan.window));
    }
}

#[test]
fn what_is_configured_anew_is_written_with_the_same_end() {
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let old = access(60, 480, &["s3:List*".to_owned()], false, false);
    let new = access(60, 480, &["s3:List*".to_owned()], true, false);
    let grant = Grant {
        principal: Principal::new(Kind::User, "a").unwrap(),
        minutes: Some(1),
        profile: Some("b".to_owned()),
        reason: None,
        dry_run: false,
    };
    let window = Window { start: now, end: now + Minutes::try_from(30).unwrap().duration() };
    let document = policy::document(&old.profiles[&"b".parse().unwrap()], window);
    let inline = [InlinePolicy { name: "sekisho-b".to_owned(), document }];
    let (old, new) = (Terms::of(&grant, &old).unwrap(), Terms::of(&grant, &new).unwrap());
    let kept = plan(&old, &inline, None, EarlierAttempt::None, now).unwrap();
    assert_eq!((kept.effect, kept.puts, kept.window), (Effect::Keeps, false, window));
    let anew = plan(&new, &inline, None, EarlierAttempt::None, now).unwrap();
    assert_eq!((anew.effect, anew.puts, anew.window), (Effect::Keeps, true, window));
    assert!(anew.document.contains("aws:MultiFactorAuthPresent"));
}
