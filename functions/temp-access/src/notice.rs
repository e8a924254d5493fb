//! The texts of the notices that the topic sends to people.

pub(crate) mod approval;
pub(crate) mod ending;

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_domain::notice::Notice;
use sekisho_domain::timestamp;
use sekisho_lambda::Invocation;
use serde_json::json;
use time::OffsetDateTime;

use crate::door::Door;
use crate::plan::{Effect, Plan};
use crate::policy;
use crate::principal::{Kind, Principal};
use crate::row::Consent;

const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What the notice about a grant says.
pub(crate) struct LetIn<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) profile: &'a str,
    /// When access starts, if it has not started yet.
    pub(crate) start: Option<OffsetDateTime>,
    pub(crate) end: OffsetDateTime,
    pub(crate) reason: Option<&'a str>,
    /// Who asked for the grant, and who approved it.
    pub(crate) consent: &'a Consent,
    /// Whether the principal already had this access, which now ends later.
    pub(crate) is_longer: bool,
    /// Whether the principal already had this access, which may allow more than before.
    pub(crate) is_wider: bool,
    /// Whether the access has ended already.
    pub(crate) is_over: bool,
}

impl<'a> LetIn<'a> {
    /// The notice about a plan that was carried out.
    pub(crate) fn of(plan: &'a Plan<'_>, reason: Option<&'a str>, consent: &'a Consent) -> Self {
        Self {
            principal: plan.terms.principal,
            profile: plan.terms.profile.as_str(),
            start: (plan.effect == Effect::Schedules).then_some(plan.window.start),
            end: plan.window.end,
            reason,
            consent,
            is_longer: matches!(plan.effect, Effect::Extends { .. } | Effect::Widens { .. }),
            is_wider: matches!(plan.effect, Effect::Widens { .. }),
            is_over: false,
        }
    }
}

/// The notice that a principal was given access, or keeps access for longer, or that its access may allow more.
pub(crate) fn let_in(let_in: &LetIn<'_>, invocation: &Invocation) -> Notice {
    let LetIn { principal, profile, reason, .. } = *let_in;
    let (end, account) = (timestamp::seconds(let_in.end), &invocation.account);
    let start = let_in.start.map(timestamp::seconds);
    let span = start.map_or_else(|| format!("until {end}"), |start| format!("from {start} until {end}"));
    let verb = match (let_in.is_over, let_in.is_longer, let_in.start) {
        (true, _, _) => "had",
        (false, true, _) => "keeps",
        (false, false, Some(_)) => "will have",
        (false, false, None) => "has",
    };
    let mut lines = vec![format!("{principal} {verb} access to account {account} as {profile} {span}.")];
    lines.extend(consent(let_in.consent));
    if let_in.is_wider {
        lines
            .push(format!("It follows the profile {profile} as it is configured now, and may allow more than before."));
    }
    lines.push(match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("Reason: {reason}"),
        None => "No reason was given.".to_owned(),
    });
    if !let_in.is_over {
        let revoke = json!({"action": "revoke", principal.kind().as_str(): principal.name()});
        // Without the region, Amazon Q may look for the function in another region.
        lines.push(format!(
            "To end it: @Amazon Q lambda invoke --function-name {} --region {} --payload {revoke}",
            invocation.function, invocation.region
        ));
    }
    let what = match (let_in.is_over, let_in.is_wider, let_in.start) {
        (true, _, _) => "Was let in",
        (false, true, _) => "Access may be wider",
        (false, false, Some(_)) => "Will be let in",
        (false, false, None) => "Let in",
    };
    let access = match (let_in.is_over, let_in.start) {
        (true, _) => "ended",
        (false, Some(_)) => "scheduled",
        (false, None) => "open",
    };
    // A press of a button in the channel cannot grant what needs an approval, or what is for emergencies.
    let again = let_in.consent.code.is_none().then_some(profile);
    let notice = Notice {
        title: format!("{what}: {principal} {span}"),
        lines,
        link: Some(event_history(principal, invocation)),
        context: context(principal, access, again),
        ..Notice::default()
    };
    if let_in.consent.break_glass { break_glass(notice, let_in.consent) } else { notice }
}

/// The line that says who asked for a grant and who approved it. Everybody in the channel is no news.
fn consent(consent: &Consent) -> Option<String> {
    let door = consent.door.as_deref().filter(|door| *door != Door::Channel.as_str())?;
    Some(match &consent.approved_by {
        Some(approved_by) => format!("Asked for at the door {door}, approved at the door {approved_by}."),
        None => format!("Asked for at the door {door}."),
    })
}

/// Turns the notice about a grant into one about a break-glass grant.
fn break_glass(notice: Notice, consent: &Consent) -> Notice {
    let Notice { title, mut lines, link, mut context, .. } = notice;
    if let Some(code) = &consent.code {
        lines.push(review(code.as_str()));
        context.insert("access", "break-glass".to_owned());
        context.insert("code", code.to_string());
    }
    Notice { title: format!("Break-glass: {title}"), lines, link, context, mentions_channel: true }
}

fn review(code: &str) -> String {
    format!("The review {code} stays open until another door closes it: {{\"approve\":\"{code}\"}}")
}

/// The notice that IAM did not answer the write of a grant, so it is unknown whether there is access.
pub(crate) fn perhaps_let_in(let_in: &LetIn<'_>, invocation: &Invocation) -> Notice {
    let mut notice = self::let_in(let_in, invocation);
    notice.title = format!("Possibly let in: {}", let_in.principal);
    notice.lines.insert(0, "IAM did not answer: it is unknown whether this grant took effect.".to_owned());
    notice
}

/// The notice that access was ended by request. `removed` has the names of the policies that were deleted. `is_open`
/// says whether everybody may ask for a profile, without an approval.
pub(crate) fn ended(
    principal: &Principal,
    removed: &[String],
    reason: Option<&str>,
    is_open: impl Fn(&str) -> bool,
    invocation: &Invocation,
) -> Notice {
    let mut lines = vec![format!("Access of {principal} to account {} was ended.", invocation.account)];
    lines.extend(reason.filter(|reason| !reason.is_empty()).map(|reason| format!("Reason: {reason}")));
    // If several profiles were ended, the button "let in again" proposes none of them.
    let again = if let [only] = removed { only.strip_prefix(policy::PREFIX) } else { None };
    let again = again.filter(|profile| is_open(profile));
    Notice {
        title: format!("Ended: access of {principal}"),
        lines,
        link: Some(event_history(principal, invocation)),
        context: context(principal, "ended", again),
        ..Notice::default()
    }
}

/// The notice that Sekisho did not write a policy whose name begins with `sekisho-`, and that the policy has no end.
pub(crate) fn open_ended(principal: &Principal, policy: &str, why: &str, invocation: &Invocation) -> Notice {
    Notice {
        title: format!("Access without an end: {principal}"),
        lines: vec![
            format!(
                "{principal} of account {} has a policy {policy} that Sekisho did not write: {why}.",
                invocation.account
            ),
            "Sekisho does not touch the policy, not even by a revoke. Find out who wrote it, and delete it.".to_owned(),
        ],
        ..Notice::default()
    }
}

/// The notice that a policy whose name begins with `sekisho-` ends later than any that Sekisho writes.
pub(crate) fn foreign(principal: &Principal, policy: &str, end: OffsetDateTime, invocation: &Invocation) -> Notice {
    Notice {
        title: format!("Access that Sekisho did not give: {principal}"),
        lines: vec![
            format!(
                "{principal} of account {} has a policy {policy} that ends only at {}. Sekisho never writes such an \
                 end, and the ledger has no such grant.",
                invocation.account,
                timestamp::seconds(end)
            ),
            "Find out who wrote the policy. A revoke removes it.".to_owned(),
        ],
        ..Notice::default()
    }
}

/// The notice that a policy of ours has ended, but the function lacks the permission to delete it.
pub(crate) fn not_removed(principal: &Principal, policy: &str, invocation: &Invocation) -> Notice {
    Notice {
        title: format!("Ended, but its policy remains: access of {principal}"),
        lines: vec![
            format!(
                "{principal} of account {} has a policy {policy} that has ended, but this function may not delete it.",
                invocation.account
            ),
            "The function's role acts only on principals with the tag sekisho:access=grantable and the access \
             boundary: put both back, or delete the policy by hand."
                .to_owned(),
        ],
        ..Notice::default()
    }
}

/// The variables of the buttons that the template attaches to notices: the principal, whether its access is `open` or
/// `ended`, and the profile to grant again.
fn context(principal: &Principal, access: &str, profile: Option<&str>) -> BTreeMap<&'static str, String> {
    let variables = [
        ("access", Some(access)),
        ("kind", Some(principal.kind().as_str())),
        ("name", Some(principal.name())),
        ("profile", profile),
    ];
    variables.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect()
}

/// A link to a principal's events in CloudTrail's event history. The events of a role's session have the session's user
/// name, not the role's. For a role, the link therefore searches for the role as a resource, and finds the events that
/// opened its sessions.
fn event_history(principal: &Principal, invocation: &Invocation) -> (String, String) {
    let console = match invocation.partition.as_str() {
        "aws-cn" => "console.amazonaws.cn",
        "aws-us-gov" => "console.amazonaws-us-gov.com",
        _ => "console.aws.amazon.com",
    };
    let attribute = match principal.kind() {
        // Identity Center names a session after the user.
        Kind::User | Kind::Person => "Username",
        Kind::Role => "ResourceName",
    };
    let region = &invocation.region;
    let name = utf8_percent_encode(principal.name(), IN_URL);
    let address = format!("https://{region}.{console}/cloudtrailv2/home?region={region}#/events?{attribute}={name}");
    ("This principal's events in CloudTrail's event history".to_owned(), address)
}
