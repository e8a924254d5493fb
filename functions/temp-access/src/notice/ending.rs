//! The texts of the two notices around the end of access: the reminder before it, and the summary after it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sekisho_domain::notice::Notice;
use sekisho_domain::timestamp;
use sekisho_lambda::Invocation;
use serde_json::json;
use time::OffsetDateTime;

use super::{consent, context, event_history};
use crate::principal::Principal;
use crate::row::Consent;
use crate::trail::Activity;

/// How many services a summary names. The rest are counted together.
const SERVICES: usize = 20;

/// What the reminder says.
pub(crate) struct Reminder<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) profile: &'a str,
    pub(crate) end: OffsetDateTime,
    pub(crate) reason: Option<&'a str>,
    pub(crate) consent: &'a Consent,
    /// Why a press of the button *Let in for longer* could not extend the access.
    pub(crate) obstacle: Option<&'static str>,
}

/// The notice that access ends soon.
pub(crate) fn reminder(reminder: &Reminder<'_>, invocation: &Invocation) -> Notice {
    let Reminder { principal, profile, obstacle, .. } = *reminder;
    let (end, account) = (timestamp::seconds(reminder.end), &invocation.account);
    let mut lines = vec![format!("{principal} has access to account {account} as {profile} until {end}.")];
    lines.extend(consent(reminder.consent));
    lines.extend(said(reminder.reason));
    lines.push(if let Some(obstacle) = obstacle {
        obstacle.to_owned()
    } else {
        let again = json!({principal.kind().as_str(): principal.name(), "profile": profile});
        format!(
            "To extend it: @Amazon Q lambda invoke --function-name {} --region {} --payload {again}",
            invocation.function, invocation.region
        )
    });
    // The buttons extend the access or end it.
    let context = if obstacle.is_none() { context(principal, "open", Some(profile)) } else { BTreeMap::new() };
    Notice { title: format!("Ends soon: access of {principal} at {end}"), lines, context, ..Notice::default() }
}

/// What the summary says.
pub(crate) struct Summary<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) profile: &'a str,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    pub(crate) reason: Option<&'a str>,
    pub(crate) consent: &'a Consent,
    /// What the principal did; `None` if CloudTrail could not be read.
    pub(crate) activity: Option<&'a Activity>,
}

/// The notice that says what a principal did while it had access.
pub(crate) fn summary(summary: &Summary<'_>, invocation: &Invocation) -> Notice {
    let Summary { principal, profile, .. } = *summary;
    let (from, until) = (timestamp::seconds(summary.from), timestamp::seconds(summary.until));
    let (account, region) = (&invocation.account, &invocation.region);
    let mut lines =
        vec![format!("{principal} had access to account {account} as {profile} from {from} until {until}.")];
    lines.extend(consent(summary.consent));
    lines.extend(said(summary.reason));
    match summary.activity {
        None => lines.push("CloudTrail could not be read, so nothing is counted here: see the link.".to_owned()),
        Some(activity) if activity.services.is_empty() => {
            lines.push(format!("CloudTrail shows no management event of {principal} in {region} in this time."));
        }
        Some(activity) => {
            lines.push(format!("At least these calls are in CloudTrail's management events of {region}:"));
            lines.extend(calls(activity));
        }
    }
    if summary.activity.is_some_and(|activity| activity.is_cut) {
        lines.push("There were more events than this function reads, so older ones are not counted.".to_owned());
    }
    lines.push(
        "Not counted: other regions, reading and writing data (such as objects in S3), and what was done with another \
         role."
            .to_owned(),
    );
    Notice {
        title: format!("What was done: {principal} until {until}"),
        lines,
        link: Some(event_history(principal, invocation)),
        ..Notice::default()
    }
}

/// A line for each service. Those with the most writes come first.
fn calls(activity: &Activity) -> Vec<String> {
    let mut services: Vec<_> = activity.services.iter().collect();
    services.sort_by_key(|(_, calls)| Reverse((calls.writes, calls.reads)));
    let counted = |writes: usize, reads: usize| match (writes, reads) {
        (writes, 0) => many(writes, "write"),
        (0, reads) => many(reads, "read"),
        (writes, reads) => format!("{}, {}", many(writes, "write"), many(reads, "read")),
    };
    let (named, others) = services.split_at(services.len().min(SERVICES));
    let mut lines: Vec<String> =
        named.iter().map(|(service, calls)| format!("{service}: {}", counted(calls.writes, calls.reads))).collect();
    if !others.is_empty() {
        let (writes, reads) = others.iter().fold((0, 0), |(w, r), (_, calls)| (w + calls.writes, r + calls.reads));
        lines.push(format!("{} more services: {}", others.len(), counted(writes, reads)));
    }
    if activity.failed > 0 {
        lines.push(format!("{} of these calls failed or were denied.", activity.failed));
    }
    lines
}

fn many(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn said(reason: Option<&str>) -> Option<String> {
    reason.filter(|reason| !reason.is_empty()).map(|reason| format!("Reason: {reason}"))
}
