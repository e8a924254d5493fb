//! What a person's request does to the rows of a train. The functions are pure: a dry run calls them, too.

mod rollback;

use std::collections::BTreeSet;

use sekisho_domain::change::{Change, Revision, SourceRef};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Target, TargetId};
use sekisho_domain::slack;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::code::{Event, RepositoryRevision};
use crate::error::Error;
use crate::ordering::Placed;
use crate::outcome::{Outcome, about_change, revision_key};
use crate::selection::listed;
use crate::status::{revision, short, shortened};
use crate::target::{TargetRow, is_same_revision};
use crate::train::{Hold, TrainChange, TrainRow, WaveRow};
use crate::train_request::{Prefix, TrainAction};
use crate::train_text::{TrainView, end, held};
use crate::wave::Standing;

/// A request whose names were found in the configuration.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) action: TrainAction,
    /// The train before the request.
    pub(crate) view: TrainView<'a>,
    /// The wave's name.
    pub(crate) wave: Option<&'a str>,
    /// The branch or tag that narrows the request.
    pub(crate) source_ref: Option<&'a SourceRef>,
    pub(crate) revision: Option<&'a Named>,
    /// The event of the notice whose code the request has.
    pub(crate) event: Option<&'a Event>,
    pub(crate) reason: &'a str,
    /// When a hold ends by itself, in epoch milliseconds.
    pub(crate) until: Option<u64>,
    /// Who asks, as far as that is known.
    pub(crate) by: Option<&'a str>,
}

/// The revision that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its first digits.
    Prefix(Prefix),
    /// By the code of a notice.
    Exact(RepositoryRevision),
}

impl Named {
    fn matches(&self, commit: &Revision) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.matches(commit),
            Self::Exact(revision) => revision.commit == *commit,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.to_string(),
            Self::Exact(revision) => short(&revision.commit),
        }
    }
}

/// What a request does. A request that changes nothing has no decision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The train's row afterwards.
    pub(crate) row: TrainRow,
    /// The rows of targets that change.
    pub(crate) targets: Vec<Placed>,
    pub(crate) decision: Option<Decision<Outcome>>,
    /// What the person reads.
    pub(crate) answer: String,
}

impl Effect {
    /// Leaves out the orders of a change whose image is gone.
    pub(crate) fn without_gone(&mut self, change: &Change) {
        let runs = |row: &TargetRow| row.order.as_ref().is_some_and(|order| is_same_revision(&order.change, change));
        let stays: Vec<Placed> = self.targets.extract_if(.., |placed| runs(&placed.row)).collect();
        if stays.is_empty() {
            return;
        }
        let ids: Vec<String> = stays.iter().map(|placed| placed.target.to_string()).collect();
        let ids = listed(ids.iter().map(String::as_str));
        let line = format!(" {} was deleted or archived, so nothing is ordered again in {ids}.", revision(change));
        self.answer.push_str(&line);
        self.row.add_gone(change);
    }
}

type Answer = Result<Effect, Error>;

/// Decides what a request does.
///
/// # Errors
/// [`Error::NotFound`] if the train does not know the revision, [`Error::InvalidRequest`] if several revisions begin
/// with the digits, and [`Error::Refused`] if a rule forbids the request.
pub(crate) fn effect(ask: &Ask<'_>) -> Answer {
    match ask.action {
        TrainAction::Train => Ok(ask.nothing(ask.view.text(ask.source_ref))),
        TrainAction::Hold => Ok(ask.hold()),
        TrainAction::Resume => ask.resume(),
        TrainAction::Accept => ask.accept(),
        TrainAction::Promote => ask.promote(),
        TrainAction::Pardon => ask.pardon(),
        TrainAction::Rollback => ask.rollback(),
    }
}

impl Ask<'_> {
    fn now(&self) -> OffsetDateTime {
        self.view.now
    }

    fn nothing(&self, answer: String) -> Effect {
        Effect { row: self.view.row.clone(), targets: vec![], decision: None, answer }
    }

    /// Whether the route has no waves.
    fn is_plain(&self) -> bool {
        self.view.route.waves().is_empty()
    }

    /// The train or wave that the request names.
    fn place(&self) -> String {
        let route = slack::shown(self.view.route.name());
        self.wave.map_or_else(|| route.clone(), |wave| format!("{} of {route}", slack::shown(wave)))
    }

    fn decision(&self, outcome: Outcome, reason: String) -> Decision<Outcome> {
        Decision::new(outcome, reason)
            .about("route", self.view.route.name())
            .about_some("wave", self.wave)
            .about_some("ref", self.source_ref.map(SourceRef::as_str))
            .about_some("by", self.by)
    }

    fn decision_about(&self, change: &Change, outcome: Outcome, reason: String) -> Decision<Outcome> {
        let decision = about_change(change, Decision::new(outcome, reason)).about("route", self.view.route.name());
        decision.about_some("wave", self.wave).about_some("by", self.by)
    }

    fn new_hold(&self) -> Hold {
        Hold {
            wave: self.wave.map(ToOwned::to_owned),
            source_ref: self.source_ref.cloned(),
            reason: self.reason.to_owned(),
            until: self.until,
            by: self.by.map(ToOwned::to_owned),
            since: epoch_millis(self.now()),
        }
    }

    fn hold(&self) -> Effect {
        let mut row = self.view.row.clone();
        let hold = self.new_hold();
        let what =
            self.source_ref.map_or_else(String::new, |source_ref| format!(" of {}", slack::shown(source_ref.name())));
        let earlier = row.hold(hold);
        // The hold that was added is the last one. It has the later end of the two.
        let until = row.holds.last().map_or_else(String::new, end);
        let before = earlier.map_or("", |_| " It was held already: the later end counts.");
        let place = self.place();
        let answer = if self.is_plain() {
            let rest = "The first reconcile after that orders the newest one.";
            format!("Until {until}, no change{what} is ordered to the targets of {place}. {rest}{before}")
        } else {
            format!("Until {until}, no change{what} enters {place}. Rollbacks go on.{before}")
        };
        let reason = format!("a person holds {} until {until}: {}", self.place(), self.reason);
        Effect { row, targets: vec![], decision: Some(self.decision(Outcome::Held, reason)), answer }
    }

    fn resume(&self) -> Answer {
        let mut row = self.view.row.clone();
        if let Some(Event::Held { since, .. }) = self.event
            && let Some(newer) = row.holds.iter().find(|hold| hold.wave.as_deref() == self.wave && hold.since > *since)
        {
            return Err(Error::Refused(format!(
                "{} was held again after this notice{}: use the button of the newer notice, or `resume` with the names",
                self.place(),
                held(newer)
            )));
        }
        let (ended, others) = row.resume(self.wave).into_iter().partition::<Vec<_>, _>(|hold| {
            self.source_ref.is_none_or(|source_ref| hold.source_ref.as_ref() == Some(source_ref))
        });
        for hold in others {
            row.hold(hold);
        }
        let active: Vec<&Hold> = ended.iter().filter(|hold| hold.is_active(self.now())).collect();
        let mut lines = vec![match active.as_slice() {
            [] => format!("No hold of {} was found.", self.place()),
            several => {
                let reasons: Vec<String> = several.iter().map(|hold| shortened(&hold.reason)).collect();
                format!("{} is no longer held: {}.", self.place(), reasons.join("; "))
            }
        }];
        if self.is_plain() && !active.is_empty() {
            lines.push("The next reconcile orders what was kept, within five minutes.".to_owned());
        }
        for hold in row.holds.iter().filter(|hold| hold.is_active(self.now())) {
            if row.holds_train(hold) {
                let what = if self.is_plain() { "The route" } else { "The whole train" };
                lines.push(format!("{what} is still held{}.", held(hold)));
            } else if let Some(wave) = hold.wave.as_deref().filter(|wave| self.wave.is_none_or(|named| named == *wave))
            {
                lines.push(format!("{} is still held{}.", slack::shown(wave), held(hold)));
            }
        }
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        let reason = format!("a person ended the hold of {}{why}", self.place());
        let decision = (!active.is_empty()).then(|| self.decision(Outcome::Resumed, reason));
        Ok(Effect { row, targets: vec![], decision, answer: lines.join("\n") })
    }

    fn accept(&self) -> Answer {
        self.check_notice()?;
        let mut targets = Vec::new();
        for (target, standing) in self.standings() {
            let Some(snapshot) = self.view.targets.read.get(&target).filter(|_| standing == Standing::Unknown) else {
                continue;
            };
            let order = snapshot.row.order.as_ref();
            let is_named = order.is_some_and(|order| {
                let is_noticed = match self.event {
                    Some(Event::Unknown { orders, .. }) => orders.get(&target) == Some(&order.number),
                    _ => true,
                };
                let is_own = order.train.as_ref().is_some_and(|train| train.route == self.view.route.name());
                is_noticed && is_own && self.source_ref.is_none_or(|source_ref| order.change.source_ref == *source_ref)
            });
            if let Some(row) = snapshot.row.accepted(self.now()).filter(|_| is_named) {
                targets.push(Placed { target, row, replaces: snapshot.revision });
            }
        }
        let unreadable = self
            .view
            .targets
            .unreadable
            .keys()
            .map(|id| format!("\nThe ledger's row of {id} cannot be read: fix or delete it."));
        let unreadable: String = unreadable.collect();
        if targets.is_empty() {
            let of = if self.event.is_some() { "the notice".to_owned() } else { self.place() };
            return Ok(self.nothing(format!("No target of {of} is unknown: nothing to accept.{unreadable}")));
        }
        let ids =
            listed(targets.iter().map(|one| one.target.to_string()).collect::<Vec<_>>().iter().map(String::as_str));
        let answer = format!("{} now counts as healthy in {}.{unreadable}", ids, self.place());
        let reason = format!("a person takes {ids} for healthy: {}", self.reason);
        let change = targets.first().and_then(|one| Some(one.row.order.as_ref()?.change.clone()));
        let decision = match change {
            Some(change) => self.decision_about(&change, Outcome::Accepted, reason),
            None => self.decision(Outcome::Accepted, reason),
        };
        Ok(Effect { row: self.view.row.clone(), targets, decision: Some(decision), answer })
    }

    fn promote(&self) -> Answer {
        let row = self.view.row;
        let wave = self.wave.unwrap_or_default();
        let one = self.newest_named(&row.changes.iter().collect::<Vec<_>>())?.ok_or_else(|| self.unknown_revision())?;
        // The revision may have come back from another reference, while the wave still works on the earlier change.
        let inside = row.wave(wave).and_then(WaveRow::open).and_then(|passage| row.change(passage.seen));
        let one = inside.filter(|inside| is_same_revision(&inside.change, &one.change)).unwrap_or(one);
        let change = &one.change;
        if row.condemnation(change).is_some() {
            let pardon = TrainAction::Pardon.example(self.view.route.name(), wave);
            return Err(Error::Refused(format!(
                "{} is condemned: send {} first, with this revision",
                revision(change),
                pardon
            )));
        }
        let replaced = row.wave(wave).and_then(|wave| wave.promotion).filter(|old| *old != one.seen);
        let replaced = replaced.and_then(|old| row.change(old)).map(|old| revision(&old.change));
        let instead = replaced.map_or_else(String::new, |old| format!(", instead of {old}"));
        let mut after = row.clone();
        if !after.promote(wave, one.seen, self.now()) {
            return Err(self.unknown_revision());
        }
        let answer = format!("{} enters {} as soon as the wave is free{instead}.", revision(change), self.place());
        let reason = format!("a person promoted the change: {}", self.reason);
        let decision = Some(self.decision_about(change, Outcome::Promoted, reason));
        Ok(Effect { row: after, targets: vec![], decision, answer })
    }

    fn pardon(&self) -> Answer {
        let row = self.view.row;
        let is_of = |commit: &Revision, source_ref: &SourceRef| {
            row.changes.iter().any(|one| one.change.revision == *commit && one.change.source_ref == *source_ref)
        };
        let condemned = row.condemned.iter().map(|one| &one.revision);
        let commits: BTreeSet<&Revision> =
            condemned.filter(|commit| self.source_ref.is_none_or(|source_ref| is_of(commit, source_ref))).collect();
        let Some(commit) = self.one_of(&commits)? else {
            let known = self.newest_named(&row.changes.iter().collect::<Vec<_>>())?;
            let known = known.ok_or_else(|| self.unknown_revision())?;
            return Ok(self.nothing(format!("{} is not condemned: nothing to pardon.", revision(&known.change))));
        };
        let condemned = || row.condemned.iter().filter(|one| one.revision == *commit);
        if let Some(Event::Condemned { at, .. }) = self.event
            && let Some(again) = condemned().find(|one| one.at > *at)
        {
            return Err(Error::Refused(format!(
                "{} was condemned again after this notice: {}. Use the button of the newer notice, or `pardon` with \
                 the revision",
                short(commit),
                shortened(&again.reason)
            )));
        }
        let mut after = row.clone();
        let repositories: BTreeSet<_> = condemned().map(|one| &one.repository).collect();
        let mut pardoned = None;
        for repository in repositories {
            pardoned = after.pardon(repository, commit, self.now()).or(pardoned);
        }
        let change = pardoned.and_then(|seen| after.change(seen)).map(|one| one.change.clone());
        let reason = format!("a person pardoned the revision: {}", self.reason);
        let (decision, answer) = if let Some(change) = change {
            let answer = format!(
                "{} is no longer condemned. Each wave that has not taken a newer change may take it once more.",
                revision(&change)
            );
            (self.decision_about(&change, Outcome::Pardoned, reason), answer)
        } else {
            let answer =
                format!("{} is no longer condemned. Push it again: the train has forgotten the change.", short(commit));
            (self.decision(Outcome::Pardoned, reason).about(revision_key(commit), commit.as_str()), answer)
        };
        Ok(Effect { row: after, targets: vec![], decision: Some(decision), answer })
    }

    /// Refuses a button of a notice about a change that is not in the wave any more.
    fn check_notice(&self) -> Result<(), Error> {
        let row = self.view.row;
        let passage = self.wave.and_then(|wave| row.wave(wave)).and_then(|wave| wave.passage.as_ref());
        let change = passage.and_then(|passage| row.change(passage.seen)).map(|one| &one.change);
        let is_same = match self.event {
            None | Some(Event::Held { .. }) => true,
            Some(Event::Unknown { sequence, .. }) => passage.map_or(0, |passage| passage.sequence) == *sequence,
            Some(Event::Condemned { revision, .. }) => change.is_some_and(|change| change.revision == revision.commit),
        };
        if is_same {
            return Ok(());
        }
        let now = change.map_or_else(|| "no change".to_owned(), revision);
        let example = self.action.example(self.view.route.name(), self.wave.unwrap_or_default());
        Err(Error::Refused(format!(
            "the notice is about an earlier change: {} has {now} by now. To mean that one, send {example}",
            self.place()
        )))
    }

    /// Each target of the wave, and where it is with the wave's change.
    fn standings(&self) -> Vec<(TargetId, Standing)> {
        let configured = self.view.route.waves().iter().find(|wave| Some(wave.name.as_str()) == self.wave);
        let row = self.wave.and_then(|wave| self.view.row.wave(wave));
        let Some((wave, row)) = configured.zip(row) else { return vec![] };
        let ids: Vec<TargetId> = wave.targets.iter().map(Target::id).collect();
        let state = self.view.observe(row, &ids);
        ids.into_iter().zip(state.places).map(|(id, place)| (id, place.standing)).collect()
    }

    /// The newest of these changes that the request names.
    fn newest_named<'c>(&self, changes: &[&'c TrainChange]) -> Result<Option<&'c TrainChange>, Error> {
        let is_named =
            |one: &&&TrainChange| self.source_ref.is_none_or(|source_ref| one.change.source_ref == *source_ref);
        let named: Vec<&'c TrainChange> = changes.iter().filter(is_named).copied().collect();
        let commits: BTreeSet<&Revision> = named.iter().map(|one| &one.change.revision).collect();
        let Some(commit) = self.one_of(&commits)? else { return Ok(None) };
        Ok(named.into_iter().rfind(|one| one.change.revision == *commit))
    }

    /// The commit that the request names, of these.
    fn one_of<'c>(&self, commits: &BTreeSet<&'c Revision>) -> Result<Option<&'c Revision>, Error> {
        let Some(named) = self.revision else { return Ok(None) };
        let matching: Vec<&Revision> = commits.iter().copied().filter(|commit| named.matches(commit)).collect();
        match matching.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            several => Err(Error::InvalidRequest(format!(
                "{} revisions begin with {}: write more digits of one of {}",
                several.len(),
                named.shown(),
                listed(several.iter().map(|commit| commit.as_str()))
            ))),
        }
    }

    fn unknown_revision(&self) -> Error {
        let named = self.revision.map_or_else(String::new, Named::shown);
        let of =
            self.source_ref.map_or_else(String::new, |source_ref| format!(" of {}", slack::shown(source_ref.name())));
        let known: Vec<String> = self.view.row.changes.iter().rev().take(3).map(|one| revision(&one.change)).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        Error::NotFound(format!(
            "{} knows no change{of} whose revision begins with {named}; its newest changes are {known}",
            slack::shown(self.view.route.name()),
        ))
    }
}
