//! The text that shows where every change of a train is, and what each wave waits for.

use std::fmt::Write as _;

use sekisho_domain::change::{Change, SourceRef};
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::{Route, Routes, Target, TargetId, Wave};
use sekisho_domain::slack;
use sekisho_domain::timestamp;
use time::OffsetDateTime;

use crate::next::gate;
use crate::snapshot::TargetRows;
use crate::status::{reason, revision, short, shortened, start_of_reason};
use crate::target::TargetRow;
use crate::train::{Condemned, Hold, Judge, TrainChange, TrainRow, Verdict, WaveRow};
use crate::wave::{Observer, Standing, WaveState};

/// The longest text that Slack shows completely, in characters.
const LONGEST: usize = 999;
/// The most condemned revisions that the text shows.
const CONDEMNED_SHOWN: usize = 3;

/// Why a wave waits whose windows never open.
pub(crate) const NEVER_OPEN: &str = "its windows never open: correct the configuration";

/// The rows of a train at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainView<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) route: &'a Route,
    /// The train's row with the waves of the configuration.
    pub(crate) row: &'a TrainRow,
    /// The rows of all targets of the route.
    pub(crate) targets: &'a TargetRows,
    pub(crate) now: OffsetDateTime,
}

/// What a wave waits for, besides the reports of its targets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait<'a> {
    /// A person has to `accept` or `rollback` this many unknown targets.
    Unknown(usize),
    /// A rollback has to end.
    GoingBack,
    /// This change was promoted, and enters next. `None` if the train forgot it.
    Promoted(Option<&'a Change>),
    /// This hold has to end.
    Hold(&'a Hold),
    /// This change enters the wave next, as soon as it may.
    Next(&'a Change),
    /// The wave's windows open at this time. `None` if they never open.
    Closed(Option<OffsetDateTime>),
}

/// A line of the text. If the text is too long, the least important lines are left out.
#[derive(Debug)]
struct Line {
    rank: Rank,
    text: String,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A target for which nobody has to do anything.
    Quiet,
    /// A target that needs attention, or a condemned revision.
    Detail,
    /// The state of a wave.
    Main,
}

impl TrainView<'_> {
    /// The text about the whole train. With `source_ref`, it names only the changes of that reference.
    pub(crate) fn text(&self, source_ref: Option<&SourceRef>) -> String {
        let mut lines = vec![main(self.head(source_ref))];
        lines.extend(self.row.holds.iter().filter(|hold| hold.is_active(self.now)).filter_map(|hold| {
            let what = if self.route.waves().is_empty() { "route" } else { "train" };
            let text = format!("The {what} is held{}", held(hold));
            self.row.holds_train(hold).then(|| main(text))
        }));
        if self.route.waves().is_empty() {
            lines.extend(self.route.targets().iter().map(|target| self.plain_target(&target.id())));
        }
        for wave in self.route.waves() {
            lines.extend(self.wave(wave, source_ref));
        }
        let is_shown = |one: &&Condemned| {
            source_ref.is_none_or(|source_ref| {
                self.row.change(one.seen).is_some_and(|of| of.change.source_ref == *source_ref)
            })
        };
        let condemned = self.row.condemned.iter().rev().filter(is_shown).take(CONDEMNED_SHOWN);
        lines.extend(condemned.map(|one| detail(self.condemned(one))));
        fit(lines)
    }

    /// The state of one wave, for the answer to a request about it.
    pub(crate) fn wave_text(&self, name: &str) -> String {
        let wave = self.route.waves().iter().find(|wave| wave.name == name);
        wave.map_or_else(String::new, |wave| fit(self.wave(wave, None)))
    }

    fn head(&self, source_ref: Option<&SourceRef>) -> String {
        let route = slack::shown(self.route.name());
        if self.route.waves().is_empty() {
            return format!("{route} has no waves: its targets get every new head at once.");
        }
        let is_shown = |one: &&TrainChange| source_ref.is_none_or(|source_ref| one.change.source_ref == *source_ref);
        match self.row.changes.iter().rfind(is_shown) {
            None => format!("{route}: no change yet."),
            Some(newest) => format!("{route}: the newest change is {}.", revision(&newest.change)),
        }
    }

    fn plain_target(&self, target: &TargetId) -> Line {
        let Some(row) = self.targets.read.get(target).map(|one| &one.row) else {
            return detail(format!("{target}: the ledger's row cannot be read: fix or delete it"));
        };
        let Some(order) = &row.order else { return quiet(format!("{target}: no order yet")) };
        let state = row.current_report().map_or("no report", |report| report.state.as_str());
        let why = row.current_report().map_or_else(String::new, |report| format!(": {}", reason(report)));
        detail(format!("{target}: {} {state}{why}", revision(&order.change)))
    }

    fn wave(&self, wave: &Wave, source_ref: Option<&SourceRef>) -> Vec<Line> {
        let name = slack::shown(&wave.name);
        let Some(row) = self.row.wave(&wave.name) else { return vec![main(format!("{name}: no change yet"))] };
        let ids: Vec<TargetId> = wave.targets.iter().map(Target::id).collect();
        let state = self.observe(row, &ids);
        let change = row.passage.as_ref().and_then(|passage| self.row.change(passage.seen)).map(|one| &one.change);
        let is_shown = |change: &&Change| source_ref.is_none_or(|source_ref| change.source_ref == *source_ref);
        let what = match (change, change.filter(is_shown)) {
            (None, _) => "no change yet".to_owned(),
            (Some(_), None) => "a change of another branch or tag".to_owned(),
            (Some(_), Some(change)) => self.change(row, change, &ids, &state),
        };
        let waits = self.waits(wave, row, &state).into_iter().map(|wait| format!("; {}", wait.text()));
        let mut lines = vec![main(format!("{name}: {what}{}", waits.collect::<String>()))];
        lines.extend(ids.iter().zip(&state.places).filter_map(|(id, place)| self.target(id, place.standing)));
        lines
    }

    /// The targets of a wave. A target whose row was not read counts as unreadable.
    pub(crate) fn observe(&self, row: &WaveRow, ids: &[TargetId]) -> WaveState {
        self.observe_rows(row, ids.iter().map(|id| (id, self.targets.read.get(id).map(|one| &one.row))))
    }

    /// The same with the rows of the targets.
    pub(crate) fn observe_rows<'t>(
        &self,
        row: &WaveRow,
        rows: impl IntoIterator<Item = (&'t TargetId, Option<&'t TargetRow>)>,
    ) -> WaveState {
        Observer { routes: self.routes, route: self.route.name(), now: self.now }.observe(self.row, row, rows)
    }

    /// The targets of a wave that wait for its change and cannot be sent back from it, because nothing else was healthy
    /// there before. Only a newer order ends the one that such a target has taken.
    pub(crate) fn waiting_without_way_back(&self, wave: &str) -> impl Iterator<Item = (TargetId, &OrderReport)> {
        let wave = self.route.waves().iter().find(|one| one.name == wave);
        let ids: Vec<TargetId> = wave.into_iter().flat_map(|wave| &wave.targets).map(Target::id).collect();
        let row = wave.and_then(|wave| self.row.wave(&wave.name));
        let places = row.map_or_else(Vec::new, |row| self.observe(row, &ids).places);
        let waiting = ids.into_iter().zip(places).filter(|(_, place)| place.standing == Standing::Waiting);
        waiting.filter_map(|(id, _)| {
            let row = &self.targets.read.get(&id)?.row;
            let report = row.current_report().filter(|report| report.state == ReportState::Waiting)?;
            let is_stuck = row.order.as_ref().is_some_and(|order| !order.has_way_back());
            is_stuck.then_some((id, report))
        })
    }

    /// The change in a wave, with the number of targets in each state.
    fn change(&self, row: &WaveRow, change: &Change, ids: &[TargetId], state: &WaveState) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for (id, place) in ids.iter().zip(&state.places) {
            let label = label(place.standing, self.targets.read.get(id).map(|one| &one.row));
            match counts.iter_mut().find(|(known, _)| *known == label) {
                Some((_, count)) => *count += 1,
                None => counts.push((label, 1)),
            }
        }
        let promoted = if row.open().is_some_and(|passage| passage.promoted) { " (promoted)" } else { "" };
        let counts = match counts.as_slice() {
            [(label, _)] if ids.len() == 1 => (*label).to_owned(),
            [(label, count)] => format!("all {count} {label}"),
            several => several.iter().map(|(label, count)| format!("{count} {label}")).collect::<Vec<_>>().join(", "),
        };
        let verdict = row.passage.as_ref().map(|passage| passage.verdict);
        let failed = if verdict == Some(Verdict::Failed) { " failed;" } else { "" };
        format!("{}{promoted}{failed} {counts}", revision(change))
    }

    /// What a wave waits for, besides the reports of its targets.
    pub(crate) fn waits<'s>(&'s self, wave: &Wave, row: &WaveRow, state: &WaveState) -> Vec<Wait<'s>> {
        let mut waits = Vec::new();
        match state.count(Standing::Unknown) {
            0 => {}
            count => waits.push(Wait::Unknown(count)),
        }
        if state.count(Standing::GoingBack) > 0 {
            waits.push(Wait::GoingBack);
        }
        if let Some(promoted) = row.promotion {
            waits.push(Wait::Promoted(self.row.change(promoted).map(|one| &one.change)));
        }
        let holds = self.row.holds.iter().filter(|hold| hold.wave.as_ref() == Some(&wave.name));
        waits.extend(holds.filter(|hold| hold.is_active(self.now)).map(Wait::Hold));
        let next = self.candidate(wave);
        waits.extend(next.map(|next| Wait::Next(&next.change)));
        let has_rest = row.open().is_some_and(|passage| !passage.promoted) && state.count(Standing::Todo) > 0;
        if (has_rest || next.is_some()) && !wave.windows.is_open(self.now) {
            waits.push(Wait::Closed(wave.windows.opens(self.now)));
        }
        waits
    }

    /// The change that enters the wave next if nothing newer comes.
    fn candidate(&self, wave: &Wave) -> Option<&TrainChange> {
        let index = self.route.waves().iter().position(|one| one.name == wave.name)?;
        let is_open = |one: &&TrainChange| gate(self.row, wave, &one.change, self.now).is_none();
        let newest = self.row.candidates(index).next_back();
        self.row.candidates(index).rfind(is_open).or(newest)
    }

    fn target(&self, id: &TargetId, standing: Standing) -> Option<Line> {
        if matches!(standing, Standing::Idle | Standing::Todo) {
            return None;
        }
        let row = self.targets.read.get(id).map(|one| &one.row);
        let label = label(standing, row);
        let report = row.and_then(TargetRow::current_report);
        let mut text = format!("- {id} {label}");
        if let Some(until) = report.filter(|one| one.state == ReportState::Baking).and_then(|one| one.until) {
            let _ = write!(text, " until {}", clock(until.millis()));
        }
        if let Some(why) = why(standing, row) {
            let _ = write!(text, ": {}", slack::shown(&why));
        }
        let is_quiet = matches!(standing, Standing::Healthy | Standing::Running | Standing::Ahead);
        Some(if is_quiet { quiet(text) } else { detail(text) })
    }

    fn condemned(&self, condemned: &Condemned) -> String {
        let by = match &condemned.by {
            Judge::Wave(wave) => format!("in {}", slack::shown(wave)),
            Judge::Person(_) => "by a person".to_owned(),
        };
        let change = self.row.change(condemned.seen);
        let change = change.map_or_else(|| short(&condemned.revision), |one| revision(&one.change));
        format!("{change} is condemned {by}: {}", shortened(&condemned.reason))
    }
}

impl Wait<'_> {
    fn text(self) -> String {
        match self {
            Self::Unknown(1) => "waits for `accept` or `rollback` of the unknown target".to_owned(),
            Self::Unknown(count) => format!("waits for `accept` or `rollback` of the {count} unknown targets"),
            Self::GoingBack => "waits for the rollback to end".to_owned(),
            Self::Promoted(change) => {
                format!("{} was promoted and enters next", change.map(revision).unwrap_or_default())
            }
            Self::Hold(hold) => format!("held{}", held(hold)),
            Self::Next(change) => format!("next is {}", revision(change)),
            Self::Closed(Some(opens)) => format!("closed until {}", local(opens)),
            Self::Closed(None) => NEVER_OPEN.to_owned(),
        }
    }
}

/// When a hold ends.
pub(crate) fn end(hold: &Hold) -> String {
    let until = hold.until.and_then(|until| i64::try_from(until).ok()).and_then(timestamp::from_epoch_millis);
    until.map_or_else(|| "`resume`".to_owned(), timestamp::seconds)
}

/// Why a target has its state: its last report, if it is about the current order. The text has what the target wrote.
pub(crate) fn why(standing: Standing, row: Option<&TargetRow>) -> Option<String> {
    let Some(row) = row else { return Some("the ledger's row cannot be read: fix or delete it".to_owned()) };
    let report = row.current_report().filter(|_| !matches!(standing, Standing::OtherTrain | Standing::Ahead));
    let reason = report.map(start_of_reason).unwrap_or_default();
    match report {
        Some(report) if standing == Standing::Unknown && !report.state.is_final() => {
            Some(format!("silent for two hours; the last report was `{}`: {reason}", report.state.as_str()))
        }
        Some(report) if standing == Standing::Unknown && report.in_source => {
            Some(format!("failed in a source action, which says nothing about the change: {reason}"))
        }
        Some(_) => Some(reason),
        None if standing == Standing::Unknown => Some("no report for two hours".to_owned()),
        None => None,
    }
}

/// The state of a target in words.
pub(crate) fn label(standing: Standing, row: Option<&TargetRow>) -> &'static str {
    let report = || row.and_then(TargetRow::current_report).map(|report| report.state);
    let is_accepted = || {
        let is_noted = |row: &TargetRow| row.order.as_ref()?.train.as_ref().map(|order| order.accepted);
        row.and_then(is_noted) == Some(true)
            && row.and_then(TargetRow::standing_order).is_some()
            && report() != Some(ReportState::Healthy)
    };
    match standing {
        Standing::Idle => "without a change",
        Standing::Todo => "to come",
        Standing::OtherChange => "with an earlier change",
        Standing::OtherTrain => "busy with another route",
        Standing::Ahead => "with a newer change",
        Standing::Waiting | Standing::Running => report().map_or("without a report", ReportState::as_str),
        Standing::GoingBack => "rolling back",
        Standing::Healthy if is_accepted() => "accepted",
        Standing::Healthy => "healthy",
        Standing::Failed if report() == Some(ReportState::RolledBack) => "rolled back",
        Standing::Failed => "failed",
        Standing::SentBack => match report() {
            Some(ReportState::Failed) => "not sent back",
            Some(ReportState::Refused) => "refused it",
            None if row.and_then(TargetRow::standing_order).is_some_and(|order| order.withdrawn) => "never answered",
            _ => "sent back",
        },
        Standing::Unknown => "unknown",
    }
}

/// The end of a hold and its reason, after the word “held”.
pub(crate) fn held(hold: &Hold) -> String {
    let changes = hold
        .source_ref
        .as_ref()
        .map_or_else(String::new, |source_ref| format!(" for {}", slack::shown(source_ref.name())));
    format!("{changes} until {}: {}", end(hold), shortened(&hold.reason))
}

/// The time of day in UTC.
fn clock(millis: u64) -> String {
    let at = i64::try_from(millis).ok().and_then(timestamp::from_epoch_millis);
    at.map_or_else(String::new, |at| format!("{:02}:{:02}Z", at.hour(), at.minute()))
}

/// A time with the offset of its zone.
fn local(at: OffsetDateTime) -> String {
    let (hours, minutes, _) = at.offset().as_hms();
    format!(
        "{} {:02}:{:02} UTC{}{:02}:{:02}",
        at.date(),
        at.hour(),
        at.minute(),
        if at.offset().is_negative() { '-' } else { '+' },
        hours.abs(),
        minutes.abs()
    )
}

fn main(text: String) -> Line {
    Line { rank: Rank::Main, text }
}

fn detail(text: String) -> Line {
    Line { rank: Rank::Detail, text }
}

fn quiet(text: String) -> Line {
    Line { rank: Rank::Quiet, text }
}

/// The lines as one text. If Slack would not show it completely, the least important lines are left out, the last ones
/// first, and counted.
fn fit(mut lines: Vec<Line>) -> String {
    let mut left_out = 0;
    loop {
        let mut text = lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
        if left_out > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n… and {left_out} more lines: `where` shows every target.");
        }
        let rank = lines.iter().map(|line| line.rank).min().filter(|rank| *rank < Rank::Main);
        let place = rank.and_then(|rank| lines.iter().rposition(|line| line.rank == rank));
        let Some(place) = place.filter(|_| text.chars().count() > LONGEST) else { return text };
        lines.remove(place);
        left_out += 1;
    }
}
