//! The text of `sekisho-window`, the managed policy through which people of Identity Center get access: which grants a
//! version contains, and the text of the next version.
//!
//! IAM has no conditional write, and its reads lag behind its writes. Each version therefore says after which version
//! it was written. If that is not the version before it, its writer had overlooked the versions in between, and
//! [`effective`] puts together what all of them were to say.

use std::collections::BTreeMap;

use sekisho_domain::code::digest;
use sekisho_domain::timestamp;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::policy::{self, AFTER, BEFORE, CURRENT_TIME, FROM};
use crate::window::{LEEWAY, Window};

/// The largest size of a managed policy, in characters without white space.
pub(crate) const LIMIT: usize = 6_144;

/// How long before its start a grant is entered into the policy. Until then, only the ledger has it, so that people who
/// come later take no room.
pub(crate) const ENTERED: Duration = Duration::minutes(10);

const USER_ID: &str = "identitystore:UserId";
const EQUALS: &str = "StringEquals";
/// What the id of the first statement begins with, before the number of the version.
const SID: &str = "After";

/// What one statement allows one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// The person's user id in Identity Center.
    pub(crate) user: String,
    pub(crate) window: Window,
    /// The statement without the person and the times, as JSON.
    body: String,
}

/// One version of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// The latest version that the writer knew; `None` if the text does not say it, such as the template's.
    pub(crate) after: Option<u64>,
    pub(crate) shares: Vec<Share>,
}

impl Share {
    /// Names the statement, in the row of its grant.
    fn digest(&self) -> String {
        digest(&[&self.body])
    }
}

/// A grant that the ledger records, and that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) user: String,
    pub(crate) profile: String,
    pub(crate) window: Window,
    /// The digests of the statements that the grant has in the policy, or is about to have.
    pub(crate) statements: Vec<String>,
}

/// A change of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Only repairs what writers have overlooked.
    Repair,
    /// Replaces what the person has of the profile.
    Put { user: String, profile: String, shares: Vec<Share> },
    /// Removes what the person has of the profile.
    Remove { user: String, profile: String },
}

/// Reads a version. A statement that Sekisho would not write is left out, so that the next version does not have it.
pub(crate) fn read(document: &str) -> Version {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let statements = document.get("Statement").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let sids =
        statements.iter().filter_map(|statement| statement.get("Sid")?.as_str()?.strip_prefix(SID)?.parse().ok());
    Version { after: sids.max(), shares: statements.iter().filter_map(read_statement).flatten().collect() }
}

fn read_statement(statement: &Value) -> Option<Vec<Share>> {
    let Parts { mut body, mut conditions, window } = split(statement)?;
    let users = match single(conditions.remove(EQUALS)?, USER_ID)? {
        Value::String(user) => vec![user],
        Value::Array(users) => users.into_iter().map(|user| user.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        _ => return None,
    };
    let body = body_text(&mut body, conditions);
    Some(users.into_iter().map(|user| Share { user, window, body: body.clone() }).collect())
}

/// The shares of a person by the policy of a profile, which has no person in it.
pub(crate) fn shares(user: &str, document: &str) -> Vec<Share> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let statements = document.get("Statement").and_then(Value::as_array).into_iter().flatten();
    let shares = statements.filter_map(|statement| {
        let Parts { mut body, conditions, window } = split(statement)?;
        Some(Share { user: user.to_owned(), window, body: body_text(&mut body, conditions) })
    });
    shares.collect()
}

/// The digests of the statements of a profile's policy, without the times.
pub(crate) fn statements(document: &str) -> Vec<String> {
    shares("", document).iter().map(Share::digest).collect()
}

/// The inline policy that allows the same as the shares of one person.
pub(crate) fn inline_policy(shares: &[Share], now: OffsetDateTime) -> String {
    let statements: Vec<Value> = shares.iter().map(|share| statement(&share.body, share.window, None, now)).collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// The text of the version that is written after the version `after`. Grants of the same statement with the same start
/// and end share it.
pub(crate) fn write(after: u64, shares: &[Share], now: OffsetDateTime) -> String {
    let mut groups: Vec<(&Share, Vec<&str>)> = Vec::new();
    for share in shares {
        match groups.iter_mut().find(|(first, _)| first.window == share.window && first.body == share.body) {
            Some((_, users)) if users.contains(&share.user.as_str()) => {}
            Some((_, users)) => users.push(&share.user),
            None => groups.push((share, vec![&share.user])),
        }
    }
    let mut statements: Vec<Value> =
        groups.iter().map(|(share, users)| statement(&share.body, share.window, Some(users), now)).collect();
    if statements.is_empty() {
        statements.push(nothing());
    }
    if let Some(first) = statements.first_mut().and_then(Value::as_object_mut) {
        first.insert("Sid".to_owned(), json!(format!("{SID}{after}")));
    }
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// A statement that allows nothing, because a policy needs at least one. The template has the same.
fn nothing() -> Value {
    json!({
        "Effect": "Allow",
        "Action": "sts:GetCallerIdentity",
        "Resource": "*",
        "Condition": {BEFORE: {CURRENT_TIME: "1970-01-01T00:00:00Z"}},
    })
}

/// The parts of an Allow.
struct Parts {
    /// What is allowed.
    body: Map<String, Value>,
    /// The conditions apart from the window.
    conditions: Map<String, Value>,
    window: Window,
}

fn split(statement: &Value) -> Option<Parts> {
    let mut body = statement.as_object()?.clone();
    body.remove("Sid");
    let Value::Object(mut conditions) = body.remove("Condition")? else { return None };
    let (has_from, has_after) = (conditions.contains_key(FROM), conditions.contains_key(AFTER));
    let mut time = |operator| match single(conditions.remove(operator)?, CURRENT_TIME)? {
        Value::String(text) => timestamp::parse_seconds(&text),
        _ => None,
    };
    // Sekisho never writes both conditions, so a statement with both, or with neither, is somebody else's.
    let start = match (has_from, has_after) {
        (true, false) => time(FROM)?,
        (false, true) => time(AFTER)?.saturating_add(LEEWAY),
        _ => return None,
    };
    let window = Window { start, end: time(BEFORE)? };
    (body.get("Effect")?.as_str()? == "Allow").then_some(Parts { body, conditions, window })
}

/// The value of a condition that has only this key.
fn single(condition: Value, key: &str) -> Option<Value> {
    let Value::Object(keys) = condition else { return None };
    let mut keys = keys.into_iter();
    match (keys.next(), keys.next()) {
        (Some((found, value)), None) if found == key => Some(value),
        _ => None,
    }
}

fn body_text(body: &mut Map<String, Value>, conditions: Map<String, Value>) -> String {
    if !conditions.is_empty() {
        body.insert("Condition".to_owned(), Value::Object(conditions));
    }
    json!(body).to_string()
}

fn statement(body: &str, window: Window, users: Option<&Vec<&str>>, now: OffsetDateTime) -> Value {
    let mut statement: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let mut conditions = match statement.remove("Condition") {
        Some(Value::Object(conditions)) => conditions,
        _ => Map::new(),
    };
    let (operator, start) = policy::beginning(window, now);
    conditions.insert(operator.to_owned(), json!({CURRENT_TIME: timestamp::seconds(start)}));
    conditions.insert(BEFORE.to_owned(), json!({CURRENT_TIME: timestamp::seconds(window.end)}));
    match users.map(Vec::as_slice) {
        None => {}
        Some([user]) => drop(conditions.insert(EQUALS.to_owned(), json!({USER_ID: user}))),
        Some(users) => drop(conditions.insert(EQUALS.to_owned(), json!({USER_ID: users}))),
    }
    statement.insert("Condition".to_owned(), Value::Object(conditions));
    Value::Object(statement)
}

/// Which version still has to be read before [`effective`] knows everything about the version `id`.
pub(crate) fn missing(versions: &BTreeMap<u64, Version>, mut id: u64) -> Option<u64> {
    loop {
        match versions.get(&id) {
            None => return Some(id),
            Some(Version { after: Some(after), .. }) if after + 1 < id => {
                if !versions.contains_key(after) {
                    return Some(*after);
                }
                id -= 1;
            }
            Some(_) => return None,
        }
    }
}

/// What the version `id` would say if its writer had overlooked nothing: what the version before it says, with the
/// change that its writer made to the version that it knew. A version that cannot be read is passed over.
pub(crate) fn effective(versions: &BTreeMap<u64, Version>, id: u64) -> Vec<Share> {
    let Some(version) = versions.get(&id) else { return Vec::new() };
    let known = version.after.filter(|after| after + 1 < id).and_then(|after| versions.get(&after));
    let (Some(known), true) = (known, versions.contains_key(&(id - 1))) else { return version.shares.clone() };
    let is_removed = |share: &Share| known.shares.contains(share) && !version.shares.contains(share);
    let mut shares = effective(versions, id - 1);
    shares.retain(|share| !is_removed(share));
    for share in version.shares.iter().filter(|share| !known.shares.contains(share)) {
        if !shares.contains(share) {
            shares.push(share.clone());
        }
    }
    shares
}

/// The grants to which a share may belong: several, if they have the same statement. The configuration does not count,
/// because it may have changed since. While a grant is extended, and after an extension that failed, its row has a larger
/// window than its share. So a grant with exactly the window of the share comes before those with a larger one.
fn owners<'h>(share: &Share, holders: &'h [Holder]) -> Vec<&'h Holder> {
    let digest = share.digest();
    let may_own = |holder: &&Holder| {
        let Holder { window, statements, .. } = *holder;
        holder.user == share.user
            && window.start <= share.window.start
            && share.window.end <= window.end
            && statements.contains(&digest)
    };
    let owners: Vec<&Holder> = holders.iter().filter(may_own).collect();
    let exact: Vec<&Holder> = owners.iter().copied().filter(|holder| holder.window == share.window).collect();
    if exact.is_empty() { owners } else { exact }
}

/// The profiles of a share: those of its grants or, if the ledger has none, that of the configuration.
pub(crate) fn profiles<'h>(share: &Share, holders: &'h [Holder], configured: &'h [Holder]) -> Vec<&'h str> {
    let mut owners = owners(share, holders);
    if owners.is_empty() {
        owners.extend(configured.iter().find(|profile| profile.statements.contains(&share.digest())));
    }
    owners.into_iter().map(|holder| holder.profile.as_str()).collect()
}

/// The shares after a change. What has ended is left out. With the ledger's grants, so is everything that is no part of
/// one; without them, a removal takes everything that the person has, as a revoke has to. What may be of the profile of
/// the change does not stay either, so that nothing outlasts the end of its grant.
pub(crate) fn apply(shares: &[Share], change: &Change, holders: Option<&[Holder]>, now: OffsetDateTime) -> Vec<Share> {
    let mut after: Vec<Share> = shares.iter().filter(|share| share.window.is_live(now)).cloned().collect();
    if let Some(holders) = holders {
        after.retain(|share| !owners(share, holders).is_empty());
    }
    let is_of = |share: &Share, user: &str, profile: &str| {
        share.user == user
            && holders.is_none_or(|all| owners(share, all).iter().any(|holder| holder.profile == profile))
    };
    match change {
        Change::Repair => {}
        Change::Put { user, profile, shares } => {
            after.retain(|share| !is_of(share, user, profile));
            after.extend_from_slice(shares);
        }
        Change::Remove { user, profile } => after.retain(|share| !is_of(share, user, profile)),
    }
    after
}

/// Whether the shares fit into the policy.
pub(crate) fn fits(document: &str) -> bool {
    policy::size(document) <= LIMIT
}

/// Everybody who would be in at the first time at which the policy would be too large; `None` if it never is. Only the
/// times are looked at at which a grant with this window is in.
pub(crate) fn overfull(shares: &[Share], window: Window, now: OffsetDateTime) -> Option<Vec<Share>> {
    let entered = |window: Window| window.start.saturating_sub(ENTERED).max(now);
    let is_in = |share: &Share, at: OffsetDateTime| entered(share.window) <= at && share.window.is_live(at);
    let mut times: Vec<OffsetDateTime> = shares.iter().map(|share| entered(share.window)).collect();
    times.retain(|at| entered(window) <= *at && window.is_live(*at));
    times.sort();
    times.dedup();
    let crowd = |at| shares.iter().filter(|share| is_in(share, at)).cloned().collect::<Vec<_>>();
    let mut crowds = times.into_iter().map(|at| (at, crowd(at)));
    // The number of the version that it follows has at most so many digits.
    crowds.find(|(at, crowd)| !fits(&write(999_999, crowd, *at))).map(|(_, crowd)| crowd)
}

/// Who leaves first, and when; `None` if nobody else is in.
pub(crate) fn next_to_leave<'s>(shares: &'s [Share], user: &str) -> Option<(&'s str, OffsetDateTime)> {
    let others = shares.iter().filter(|share| share.user != user);
    others.min_by_key(|share| share.window.end).map(|share| (share.user.as_str(), share.window.end))
}

#[cfg(test)]
mod tests;
