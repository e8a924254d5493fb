//! Finds out through which door an invocation came, and what it asks for.

use std::borrow::Cow;

use sekisho_domain::access::{Access, AccountName};
use sekisho_domain::config::Misconfigured;
use sekisho_domain::{slack, timestamp};
use sekisho_lambda::Invocation;
use sekisho_lambda::board::{READ_ONLY, is_widget};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::aws::lambda::{HUB, Hub};
use crate::door::{CHANNEL, Door};
use crate::error::Error;
use crate::hub::Envelope;
use crate::request::{self, Payload, Request};
use crate::run::{SETTLE_LIMIT, usable};

/// How much earlier than its hub a function stops, in which time the answer travels.
const HOP: Duration = Duration::from_millis(250);

/// An invocation whose door is known.
#[derive(Debug)]
pub(crate) struct Entry<'i> {
    pub(crate) door: Door,
    /// The door as the decisions write it, also if there is no such door.
    pub(crate) sender: String,
    /// The invocation. If the hub account handed the request on, it has the id of the request there.
    pub(crate) invocation: Cow<'i, Invocation>,
    /// When the person began to wait.
    pub(crate) start: Instant,
    pub(crate) task: Result<Task, Error>,
}

/// What an invocation asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Carry out a request in this account.
    CarryOut(Request),
    /// Hand a request, which is JSON, on to another function.
    HandOn(Hub, String),
}

impl Task {
    /// Whether the task only shows what it would do.
    pub(crate) fn is_dry_run(&self) -> bool {
        match self {
            Self::CarryOut(request) => request.is_dry_run(),
            Self::HandOn(_, json) => {
                matches!(request::parse(json), Ok(Payload::Here(request)) if request.is_dry_run())
            }
        }
    }
}

impl<'i> Entry<'i> {
    /// Reads an invocation. `hub` is the account that may hand requests on to this one.
    pub(crate) fn of(
        payload: &str,
        invocation: &'i Invocation,
        access: &Result<Access, Misconfigured>,
        hub: Option<&str>,
        now: OffsetDateTime,
    ) -> Self {
        let alias = invocation.qualifier.as_deref();
        let mut entry = Self {
            door: Door::Channel,
            sender: alias.unwrap_or(CHANNEL).to_owned(),
            invocation: Cow::Borrowed(invocation),
            start: Instant::now(),
            task: Err(Error::Refused(NO_HUB.to_owned())),
        };
        if alias != Some(HUB) {
            match Door::of_alias(alias, usable(access)) {
                Ok(door) => {
                    entry.task = task(payload, &door, invocation, access);
                    entry.door = door;
                }
                Err(error) => entry.task = Err(error),
            }
        } else if hub.is_some() {
            entry.receive(payload, access, now);
        }
        entry
    }

    /// Reads what the hub account hands on.
    fn receive(&mut self, payload: &str, access: &Result<Access, Misconfigured>, now: OffsetDateTime) {
        if is_widget(payload) {
            self.door = Door::Board;
            self.task = task(payload, &self.door, &self.invocation, access);
            return;
        }
        let Envelope { id, until, door, request } = match Envelope::read(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.task = Err(error);
                return;
            }
        };
        self.door = door.map_or(Door::Channel, Door::Person);
        self.sender = self.door.as_str().to_owned();
        self.invocation.to_mut().request_id = id;
        if now >= until {
            self.task = Err(too_late(until));
            return;
        }
        // The limits of the request count from the time at which the person began to wait for the hub.
        let left = Duration::try_from(until - now).unwrap_or_default();
        let elapsed = (SETTLE_LIMIT + HOP).saturating_sub(left);
        self.start = self.start.checked_sub(elapsed).unwrap_or(self.start);
        self.task = received(&request, &self.door, access);
    }
}

/// The refusal at the alias `hub` in an account without a hub.
const NO_HUB: &str = "this account has no hub: set the parameter HubAccountId to the account that hands requests on";

fn too_late(until: OffsetDateTime) -> Error {
    Error::Refused(format!(
        "the hub account stopped waiting at {}: send the request again. Nothing was begun",
        timestamp::seconds(until)
    ))
}

/// The task of a payload that came through a door of this account.
fn task(
    payload: &str,
    door: &Door,
    invocation: &Invocation,
    access: &Result<Access, Misconfigured>,
) -> Result<Task, Error> {
    match request::parse(payload)? {
        Payload::Here(request) => allowed(request, door).map(Task::CarryOut),
        Payload::Account { .. } if *door == Door::Board => {
            Err(Error::Refused("the alias `board` answers for its own account only: leave out `account`".to_owned()))
        }
        Payload::Account { name, request } => {
            let hub = hub_of(&name, invocation, usable(access)?)?;
            // Only one region of an account grants access, so this function is the one of its account.
            if hub.account == invocation.account {
                task(&request, door, invocation, access)
            } else {
                Ok(Task::HandOn(hub, request))
            }
        }
    }
}

/// The request, if it may come through the door at all.
fn allowed(request: Request, door: &Door) -> Result<Request, Error> {
    match door {
        Door::Board if !request.is_read_only() => Err(Error::Refused(READ_ONLY.to_owned())),
        Door::Person(_) if request.is_of_schedule() => {
            Err(Error::Refused("a schedule's event comes through no door: invoke the function without one".to_owned()))
        }
        Door::Board | Door::Person(_) | Door::Channel => Ok(request),
    }
}

/// The function of an account that a request names.
fn hub_of(name: &str, invocation: &Invocation, access: &Access) -> Result<Hub, Error> {
    let Some((_, place)) = access.accounts.iter().find(|(known, _)| known.as_str() == name) else {
        let known: Vec<&str> = access.accounts.keys().map(AccountName::as_str).collect();
        let fix = match known.as_slice() {
            [] => "the configuration names no account under `[access.accounts]`: leave it out".to_owned(),
            known => format!("write one of {}, or leave it out", known.join(", ")),
        };
        return Err(Error::Invalid(format!("`account` is `{}`: {fix}", slack::quoted(name))));
    };
    Ok(Hub {
        partition: invocation.partition.clone(),
        account: place.account.clone(),
        region: place.region.clone().unwrap_or_else(|| invocation.region.clone()),
        function: invocation.function.clone(),
    })
}

/// The task of a request that the hub account handed on. A revoke is taken whatever door it came through.
fn received(request: &str, door: &Door, access: &Result<Access, Misconfigured>) -> Result<Task, Error> {
    let request = match request::parse(request)? {
        Payload::Here(request) if !request.is_of_schedule() => request,
        Payload::Here(_) => return Err(Error::Invalid("the hub hands on no event of a schedule".to_owned())),
        Payload::Account { .. } => {
            return Err(Error::Invalid("`account` in a request that the hub hands on: leave it out".to_owned()));
        }
    };
    if let Door::Person(name) = door
        && !matches!(request, Request::Revoke(_))
    {
        Door::of_alias(Some(name.as_str()), usable(access))?;
    }
    Ok(Task::CarryOut(request))
}
