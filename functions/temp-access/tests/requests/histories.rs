//! Any sequence of requests, approvals, revokes, changes of the configuration, and sweeps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sekisho_domain::access::{Access, Approval, DoorName};
use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use temp_access::answer::Answer;
use temp_access::principal::Kind::User;
use time::{Duration, OffsetDateTime};
use tokio::time::advance;

use crate::account::{Account, FOLLOW_UP, SWEEP};
use crate::approvals::DOORS;
use crate::people::{account, user};

const DOOR_NAMES: [&str; 5] = ["hana", "taro", "jun", "approvers", ""];
const PROFILES: [&str; 3] = ["admin", "read-only", "glass"];

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        door: usize,
        profile: usize,
        minutes: u64,
        from: Option<i64>,
    },
    Approve {
        door: usize,
        code: usize,
    },
    Decline {
        door: usize,
        code: usize,
    },
    Revoke,
    /// A deployment of a configuration, perhaps right before a sweep.
    Configure {
        number: usize,
        is_swept: bool,
    },
    Sweep,
    FollowUp,
    Wait(u64),
}

/// Most requests that need an approval get one at once.
fn steps(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Vec<Step>> {
    let approve = prop::option::weighted(0.7, Just(Step::Approve { door: 1, code: 0 }));
    let next = (step, approve).prop_map(|(step, approve)| {
        let is_asked = matches!(step, Step::Ask { .. });
        std::iter::once(step).chain(approve.filter(|_| is_asked)).collect::<Vec<_>>()
    });
    prop::collection::vec(next, 1..40).prop_map(|all| all.concat())
}

/// Several grants of one person at the same time, whose profiles change. What begins within ten minutes is in the policy
/// at once.
fn step_of_several() -> impl Strategy<Value = Step> {
    let from = prop::option::weighted(0.5, 1..12_i64);
    prop_oneof![
        6 => (0..2_usize, 1..400_u64, from)
            .prop_map(|(profile, minutes, from)| Step::Ask { door: 0, profile, minutes, from }),
        2 => prop_oneof![Just(0), Just(3), Just(4)].prop_map(|number| Step::Configure { number, is_swept: true }),
        1 => Just(Step::Revoke),
        1 => (0..8_u64).prop_map(Step::Wait),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Most steps come through a door at which they can succeed.
    let asking = prop_oneof![4 => Just(0), 1 => 0..DOOR_NAMES.len()];
    let deciding = prop_oneof![4 => 1..3_usize, 1 => 0..DOOR_NAMES.len()];
    let profile = prop_oneof![3 => Just(0), 1 => 0..PROFILES.len()];
    let code = prop_oneof![4 => Just(0_usize), 1 => 0..3_usize];
    let from = prop::option::weighted(0.3, -5..100_i64);
    let number = prop_oneof![2 => Just(0), 3 => 0..6_usize];
    prop_oneof![
        6 => (asking, profile, 1..400_u64, from)
            .prop_map(|(door, profile, minutes, from)| Step::Ask { door, profile, minutes, from }),
        2 => (deciding.clone(), code.clone()).prop_map(|(door, code)| Step::Approve { door, code }),
        1 => (deciding, code).prop_map(|(door, code)| Step::Decline { door, code }),
        2 => Just(Step::Revoke),
        1 => (number, any::<bool>()).prop_map(|(number, is_swept)| Step::Configure { number, is_swept }),
        2 => Just(Step::Sweep),
        1 => Just(Step::FollowUp),
        3 => prop_oneof![3 => 0..30_u64, 1 => 0..300_u64].prop_map(Step::Wait),
    ]
}

/// Whose access the histories are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A user, with inline policies.
    Users,
    /// A person of Identity Center, with a part of `sekisho-window`.
    Persons,
}

impl Whose {
    /// The field of a request, the name in it, and the beginning of the keys of the rows.
    fn names(self) -> (&'static str, &'static str, String) {
        match self {
            Self::Users => ("user", "prd-user", "user/prd-user".to_owned()),
            Self::Persons => ("person", "hana@example.com", format!("person/{}", user("hana"))),
        }
    }

    fn account(self) -> Account {
        let mut account = match self {
            Self::Users => Account::with(DOORS),
            Self::Persons => account(0),
        };
        account.function.access = Ok(self.configuration(0));
        account
    }

    /// One of six configurations.
    fn configuration(self, number: usize) -> Access {
        let needs = "approval   = \"another\"";
        let changed = match number {
            0 => DOORS.to_owned(),
            1 => DOORS.replacen(needs, "approval = \"another\"\nmax_minutes = 90", 1),
            2 => DOORS.replacen(needs, "", 1),
            3 => DOORS.replacen(
                "[\"ec2:Describe*\"], resources = [\"*\"] }]",
                "[\"ec2:*\"], resources = [\"*\"] }]\napproval = \"another\"",
                1,
            ),
            4 => DOORS.replacen("actions = [\"*\"]", "actions = [\"s3:*\"]", 1),
            _ => DOORS.replace("people.taro", "people.jiro").replace("[\"hana\", \"taro\"]", "[\"hana\"]"),
        };
        let (kind, name, _) = self.names();
        let changed = changed.replace("user/prd-user", &format!("{kind}/{name}"));
        // In `sekisho-window`, only the actions tell the profiles apart.
        let changed = changed.replace(GLASS, &GLASS.replace("\"*\"]", "\"iam:*\"]"));
        Document::parse("sekisho.toml", &changed).unwrap().access().unwrap()
    }

    /// What IAM has of the access, by the name of the policy.
    fn policies(self, account: &Account) -> BTreeMap<String, String> {
        if self == Self::Users {
            return account.cloud.policies(User, "prd-user");
        }
        let document: Value = account.cloud.people(|people| serde_json::from_str(people.document()).unwrap());
        let statements = document["Statement"].as_array().unwrap().iter();
        let theirs = statements.filter(|one| one["Condition"]["StringEquals"]["identitystore:UserId"] == user("hana"));
        let mut named = BTreeMap::new();
        for statement in theirs {
            let profile = match statement["Action"].as_str().unwrap() {
                "*" | "s3:*" => "admin",
                "iam:*" => "glass",
                _ => "read-only",
            };
            // The text says the same before and after the start, although the next write after the start spells it
            // in another way.
            let (begin, end) = window(&json!({"Statement": [statement]}).to_string());
            let condition = json!({
                "DateGreaterThanEquals": {"aws:CurrentTime": timestamp::seconds(begin)},
                "DateLessThan": {"aws:CurrentTime": timestamp::seconds(end)},
            });
            let text = json!({"Statement": [{"Condition": condition}]}).to_string();
            assert_eq!(named.insert(format!("sekisho-{profile}"), text), None, "{profile} has one window: {document}");
        }
        named
    }
}

/// The statement of the profile for emergencies.
const GLASS: &str = "[access.profiles.glass]\nstatements  = [{ actions = [\"*\"], resources";

/// A span in which an answer, or the notice of a sweep, promised access.
#[derive(Debug, Clone, Copy)]
struct Promise {
    /// The start of the policy.
    start: OffsetDateTime,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

/// A chain of grants, as the policies show it.
#[derive(Debug, Clone, Copy)]
struct Chain {
    start: OffsetDateTime,
    end: OffsetDateTime,
}

/// An account with everything that was promised and written so far.
struct History {
    whose: Whose,
    account: Account,
    codes: Vec<String>,
    /// The last promise of each profile that nothing has ended.
    promises: BTreeMap<String, Promise>,
    decisions: Vec<Value>,
    policies: BTreeMap<String, String>,
    /// The last chain of each policy.
    chains: BTreeMap<String, Chain>,
    /// The first start of the chain of each policy that was written before its access began.
    scheduled: BTreeMap<String, OffsetDateTime>,
}

impl History {
    fn new(whose: Whose) -> Self {
        Self {
            whose,
            account: whose.account(),
            codes: Vec::new(),
            promises: BTreeMap::new(),
            decisions: Vec::new(),
            policies: BTreeMap::new(),
            chains: BTreeMap::new(),
            scheduled: BTreeMap::new(),
        }
    }

    /// Carries out a step. The answer may be a refusal.
    async fn take(&mut self, step: &Step) {
        let (kind, name, _) = self.whose.names();
        let code = |index: usize| self.codes.iter().rev().nth(index).cloned().unwrap_or("ABCDEFGH".to_owned());
        let (door, payload) = match step {
            Step::Ask { door, profile, minutes, from } => {
                let mut request = json!({
                    kind: name, "minutes": minutes, "profile": PROFILES[*profile], "reason": "why",
                });
                if let Some(from) = from {
                    request["from"] = timestamp::seconds(self.account.now() + Duration::minutes(*from)).into();
                }
                (*door, request)
            }
            Step::Approve { door, code: index } => (*door, json!({"approve": code(*index)})),
            Step::Decline { door, code: index } => (*door, json!({"decline": code(*index)})),
            Step::Revoke => (4, json!({"action": "revoke", kind: name})),
            Step::Sweep => (4, serde_json::from_str(SWEEP).unwrap()),
            Step::FollowUp => (4, serde_json::from_str(FOLLOW_UP).unwrap()),
            Step::Configure { number, is_swept } => {
                self.account.function.access = Ok(self.whose.configuration(*number));
                if !is_swept {
                    return;
                }
                (4, serde_json::from_str(SWEEP).unwrap())
            }
            Step::Wait(minutes) => {
                advance(std::time::Duration::from_mins(*minutes)).await;
                return;
            }
        };
        if let Ok(Answer::Text(text)) = self.account.invoke_at(DOOR_NAMES[door], &payload.to_string()).await {
            let code = text.strip_prefix("Request ").and_then(|rest| rest.split_once(' '));
            self.codes.extend(code.map(|(code, _)| code.to_owned()));
        }
    }

    /// Checks everything that was written since the last check, and what is allowed now.
    async fn check(&mut self) {
        let now = self.account.now();
        let decisions = self.account.decisions();
        let known = self.decisions.len();
        self.promise(&decisions[known..], now);
        self.decisions = decisions;
        self.go_on(now);
        let policies = self.whose.policies(&self.account);
        for (profile, promise) in self.promises.iter().filter(|(_, promise)| now < promise.until) {
            let written = policies.get(&format!("sekisho-{profile}")).map(|document| window(document).1);
            // The policy of a person that begins later is written by the next follow-up after its start. Until then, the
            // answer to another request does not say that the access works.
            let is_kept = written == Some(promise.until)
                || self.whose == Whose::Persons && {
                    let row = self.account.row(&format!("{}/{profile}", self.whose.names().2)).await.unwrap();
                    now < promise.from || row.state.awaits_entry
                };
            assert!(is_kept, "{now}: {profile}: {promise:?} was promised, but the policy ends at {written:?}");
        }
        for (name, document) in &policies {
            let profile = name.strip_prefix("sekisho-").unwrap();
            let (begin, end) = window(document);
            let promise = self.promises.get(profile).copied();
            if self.policies.get(name) != Some(document) {
                assert_eq!(promise.map(|promise| promise.start), Some(begin), "{now}: {name} {document}: {promise:?}");
                self.check_written(profile, begin, end).await;
                self.check_chain(name, begin.max(now), end);
            }
            if now < end {
                let is_promised = promise.is_some_and(|promise| promise.from <= begin.max(now) && end <= promise.until);
                assert!(is_promised, "{now}: {name} {document}: {promise:?}");
            }
        }
        self.policies = policies;
    }

    /// Notes what new decisions promise, and which promises they end.
    fn promise(&mut self, decisions: &[Value], now: OffsetDateTime) {
        for decision in decisions {
            let outcome = decision["outcome"].as_str().unwrap();
            let gives_access = ["granted", "extended", "widened", "scheduled", "unchanged"].contains(&outcome);
            if gives_access && decision.get("start").is_some() {
                let time = |field: &str| timestamp::parse_seconds(decision[field].as_str().unwrap()).unwrap();
                let profile = decision["profile"].as_str().unwrap().to_owned();
                // The start is that of the chain. The access begins with the grant, unless it is scheduled.
                let from = time("start").max(now - Duration::minutes(1));
                self.promises.insert(profile, Promise { start: time("start"), from, until: time("until") });
            } else if outcome == "revoked" {
                for policy in decision["policies"].as_str().unwrap().split(' ') {
                    self.promises.remove(policy.strip_prefix("sekisho-").unwrap());
                }
            }
        }
    }

    /// Prolongs the chains of the policies that gave access since the last check.
    fn go_on(&mut self, now: OffsetDateTime) {
        for (name, document) in &self.policies {
            let (begin, end) = window(document);
            if now < begin {
                continue;
            }
            if let Some(start) = self.scheduled.remove(name) {
                self.chains.insert(name.to_owned(), Chain { start, end: end.min(now) });
            }
            if let Some(chain) = self.chains.get_mut(name) {
                chain.end = chain.end.max(end.min(now));
            }
        }
    }

    /// Grants that follow each other within half an hour form a chain, which is no longer than `max_minutes`, whatever
    /// was scheduled or revoked in between. This goes by the policies alone, not by the ledger.
    fn check_chain(&mut self, name: &str, begin: OffsetDateTime, end: OffsetDateTime) {
        let access = self.account.function.access.as_ref().unwrap();
        let longest = access.longest(name.strip_prefix("sekisho-").unwrap()).duration();
        // Some seconds are left out, in which the steps themselves take time.
        let rest = Duration::minutes(30) - Duration::seconds(10);
        let last = self.chains.get(name).filter(|chain| begin < chain.end + rest);
        let start = last.map_or(begin, |chain| chain.start);
        assert!(end - start <= longest, "{name}: the chain from {start} to {end} exceeds {longest}: {last:?}");
        self.scheduled.remove(name);
        if begin <= self.account.now() {
            self.chains.insert(name.to_owned(), Chain { start, end: begin });
        } else {
            self.scheduled.insert(name.to_owned(), start);
        }
    }

    /// No window exceeds `max_minutes`, and a profile that needs an approval has one of somebody else on record.
    async fn check_written(&self, profile: &str, begin: OffsetDateTime, end: OffsetDateTime) {
        let access = self.account.function.access.as_ref().unwrap();
        let longest = access.longest(profile).duration();
        assert!(end - begin.max(self.account.now()) <= longest, "{profile}: {begin} to {end} is more than {longest}");
        let (_, configured) = access.profiles.iter().find(|(name, _)| name.as_str() == profile).unwrap();
        let row = self.account.row(&format!("{}/{profile}", self.whose.names().2)).await.unwrap().state;
        assert!(end - row.start <= longest, "{profile}: the chain from {} to {end} exceeds {longest}", row.start);
        if configured.approval == Approval::Another {
            let door = |name: &Option<String>| name.as_deref().unwrap().parse::<DoorName>().unwrap();
            let (asked, approved) = (door(&row.consent.door), door(&row.consent.approved_by));
            assert!(access.people_behind(&asked).is_disjoint(&access.people_behind(&approved)));
            let code = row.consent.code.clone().unwrap();
            let is_approval =
                |decision: &&Value| decision["outcome"] == "approved" && decision["code"] == code.as_str();
            let approval = self.decisions.iter().find(is_approval).unwrap();
            assert_eq!(approval["approved_by"], approved.as_str());
        }
        if configured.break_glass {
            assert!(row.consent.code.is_some() && row.consent.door.as_deref() == Some("hana"));
        }
    }
}

/// The start and the end of a policy. A policy that was written after its start also allows the two minutes before that.
fn window(document: &str) -> (OffsetDateTime, OffsetDateTime) {
    let document: Value = serde_json::from_str(document).unwrap();
    let condition = &document["Statement"][0]["Condition"];
    let time = |operator: &str| timestamp::parse_seconds(condition[operator]["aws:CurrentTime"].as_str()?);
    let begun = || time("DateGreaterThan").map(|start| start + Duration::minutes(2));
    (time("DateGreaterThanEquals").or_else(begun).unwrap(), time("DateLessThan").unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_window_is_limited_promised_and_approved(steps in steps(step())) {
        play(Whose::Users, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_window_of_a_person_is_limited_promised_and_approved(
        steps in prop_oneof![steps(step()), steps(step_of_several())],
    ) {
        play(Whose::Persons, &steps);
    }
}

fn play(whose: Whose, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut history = History::new(whose);
        for step in steps {
            history.take(step).await;
            history.check().await;
        }
    });
}
