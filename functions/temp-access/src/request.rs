//! The payload of an invocation: a person's request, or the schedule's sweep.
//!
//! A request is one JSON object with known fields. Each field occurs at most once and has its own type. Nothing is
//! corrected silently: the answer to a mistyped request says in one line what to write instead.

mod fields;

use sekisho_domain::code::Code;
use sekisho_domain::slack;
use sekisho_lambda::board::is_widget;
use sekisho_lambda::event::SCHEDULE_SOURCE;
use time::OffsetDateTime;

use self::fields::{EXAMPLE, Fields, invalid};
use crate::chat;
use crate::error::Error;
use crate::principal::Principal;

/// The end of the ARN of the rule for follow-ups.
const FOLLOW_UP_RULE: &str = ":rule/sekisho-access-follow-up";

const REQUEST_FIELDS: [&str; 10] =
    ["action", "user", "role", "person", "minutes", "from", "profile", "reason", "dry_run", "account"];
/// The fields of an EventBridge event. Only an event has the field `source`.
const SCHEDULE_FIELDS: [&str; 9] =
    ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"];

/// A payload, and the account whose function carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// A request without an account, which this function carries out.
    Here(Request),
    /// A request that names an account.
    Account {
        /// The account's name in the configuration, as it was typed.
        name: String,
        /// The request without the account, as JSON.
        request: String,
    },
}

/// The request of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Give a principal access.
    Grant(Grant),
    /// End all access of a principal.
    Revoke(Revoke),
    /// Approve the request with this code, or close the review with this code.
    Approve(Code),
    /// Decline or withdraw the request with this code.
    Decline(Code),
    /// List what waits for an approval or a review.
    Pending,
    /// List everybody with access.
    List,
    /// Show the help text.
    Help,
    /// Show a widget of the dashboard, which has this payload.
    Widget(String),
    /// Remove policies that have ended, and then follow up (the event of the schedule every 15 minutes).
    Sweep,
    /// End the sessions of grants that have ended, and send notices that are missing (the event of the schedule every
    /// minute).
    FollowUp,
}

/// A request to give a principal access. The configuration supplies the values that the request leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user or role that gets access.
    pub principal: Principal,
    /// The length in minutes, at least 1; it may exceed what the configuration allows.
    pub minutes: Option<u64>,
    /// When access starts; `None` if it starts at once.
    pub from: Option<OffsetDateTime>,
    /// The name of the profile.
    pub profile: Option<String>,
    /// The reason, as it was typed.
    pub reason: Option<String>,
    /// Whether the request only shows what it would do.
    pub dry_run: bool,
}

/// A request to end all access of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoke {
    /// The user or role that loses access.
    pub(crate) principal: Principal,
    /// The reason, as it was typed.
    pub(crate) reason: Option<String>,
    /// Whether the request only shows what it would do.
    pub(crate) dry_run: bool,
}

impl Request {
    /// The principal that the request names.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Grant(grant) => Some(&grant.principal),
            Self::Revoke(revoke) => Some(&revoke.principal),
            _ => None,
        }
    }

    /// Whether the request only shows what it would do.
    pub(crate) fn is_dry_run(&self) -> bool {
        match self {
            Self::Grant(grant) => grant.dry_run,
            Self::Revoke(revoke) => revoke.dry_run,
            _ => false,
        }
    }

    /// Whether the answer changes nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        match self {
            Self::Grant(_) | Self::Revoke(_) => self.is_dry_run(),
            Self::Pending | Self::List | Self::Help | Self::Widget(_) => true,
            Self::Approve(_) | Self::Decline(_) | Self::Sweep | Self::FollowUp => false,
        }
    }

    /// Whether the schedule sent the event, and no person.
    pub(crate) fn is_of_schedule(&self) -> bool {
        matches!(self, Self::Sweep | Self::FollowUp)
    }
}

/// Reads a payload.
///
/// # Errors
/// [`Error::Invalid`] if the payload is not a request. The error's text says what to write instead.
pub(crate) fn parse(payload: &str) -> Result<Payload, Error> {
    // The person who looks at a dashboard did not write the fields of its widgets, so they never do anything else.
    if is_widget(payload) {
        return Ok(Payload::Here(Request::Widget(payload.to_owned())));
    }
    let payload = chat::with_plain_spaces(payload);
    let fields = Fields::read(&payload)?;
    // The event of a schedule has a field `account`, too.
    if fields.get("source").is_some() {
        return schedule(&fields).map(Payload::Here);
    }
    match fields.text("account")? {
        Some(name) => Ok(Payload::Account { name, request: fields.without("account") }),
        None => request(&fields).map(Payload::Here),
    }
}

/// The short forms of the decisions on a request.
const DECISIONS: [(&str, Decide); 2] = [("approve", Request::Approve), ("decline", Request::Decline)];

type Decide = fn(Code) -> Request;

fn request(fields: &Fields) -> Result<Request, Error> {
    // `{"approve":"<code>"}` is short for `{"action":"approve","request":"<code>"}`.
    for (action, decide) in DECISIONS {
        if fields.get(action).is_some() {
            fields.only(&[action], &format!("not a field beside `{action}`"))?;
            return Ok(decide(fields.code(action)?));
        }
    }
    let action = fields.text("action")?;
    if let Some((action, decide)) = DECISIONS.into_iter().find(|(name, _)| action.as_deref() == Some(name)) {
        fields.only(&["action", "request"], &format!("not a field of {action}"))?;
        return Ok(decide(fields.code("request")?));
    }
    fields.only(&REQUEST_FIELDS, "not a field of a request")?;
    match action.as_deref() {
        None | Some("grant") => Ok(Request::Grant(Grant {
            principal: fields.principal("grant")?,
            minutes: fields.minutes()?,
            from: fields.time("from")?,
            profile: fields.text("profile")?,
            reason: fields.reason()?,
            dry_run: fields.flag("dry_run")?,
        })),
        Some("revoke") => {
            // A revoke ends the access of all profiles. If a request named one profile, people would expect that the
            // others stay.
            fields.only(&["action", "user", "role", "person", "reason", "dry_run"], "not a field of revoke")?;
            Ok(Request::Revoke(Revoke {
                principal: fields.principal("revoke")?,
                reason: fields.reason()?,
                dry_run: fields.flag("dry_run")?,
            }))
        }
        Some("list") => fields.only(&["action"], "not a field of list").map(|()| Request::List),
        Some("pending") => fields.only(&["action"], "not a field of pending").map(|()| Request::Pending),
        Some("help") => fields.only(&["action"], "not a field of help").map(|()| Request::Help),
        Some(other) => invalid(format!(
            "`action` is `{}`: write grant, revoke, list, help, approve, decline or pending",
            slack::quoted(other)
        )),
    }
}

fn schedule(fields: &Fields) -> Result<Request, Error> {
    fields.only(&SCHEDULE_FIELDS, "not a field of a schedule's event")?;
    match fields.text("source")?.as_deref() {
        Some(SCHEDULE_SOURCE) => {
            // The two schedules differ only in their rules. The event of an unknown rule asks for the larger task.
            let rules = fields.get("resources").and_then(|rules| serde_json::from_str::<Vec<String>>(rules).ok());
            let is_follow_up = rules.is_some_and(|rules| rules.iter().any(|rule| rule.ends_with(FOLLOW_UP_RULE)));
            Ok(if is_follow_up { Request::FollowUp } else { Request::Sweep })
        }
        _ => invalid(format!(
            "the event's source is not {SCHEDULE_SOURCE}: send a schedule's event, or a request such as {EXAMPLE}"
        )),
    }
}

#[cfg(test)]
mod tests;
