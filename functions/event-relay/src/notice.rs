//! The notices about trains: when people get one, and its text.
//!
//! A notice has a code. The buttons below the notice send the code back, and so may a person who types a request.

use std::time::Duration;

use sekisho_domain::change::Change;
use sekisho_domain::code::Code;
use sekisho_domain::notice::Notice;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::OrderReport;
use sekisho_domain::route::{Target, TargetId, Wave};
use sekisho_domain::timestamp::epoch_millis;

use crate::code::{CodeRow, Event, RepositoryRevision};
use crate::status::{reason, revision, short};
use crate::target::TargetRow;
use crate::train::{Condemned, Hold, Judge, WaveRow};
use crate::train_text::{TrainView, end, why};
use crate::wave::Standing;

/// A notice about a condemnation or a hold is sent within this time. Within it, every reconcile tries again if SNS did
/// not accept the notice.
const SENT_WITHIN: Duration = Duration::from_hours(24);
/// The most unknown targets that a notice lists.
const MOST_LISTED: usize = 20;

/// A notice, and what its code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrainNotice {
    pub(crate) notice: Notice,
    pub(crate) code: CodeRow,
    /// What the notices about unknown targets of one change in a wave have in common. `None` for other notices.
    pub(crate) series: Option<Code>,
}

/// An unknown target and its row.
type UnknownTarget<'a> = (TargetId, &'a TargetRow);

/// The notices that people should have. Those that were sent already are among them.
pub(crate) fn due(view: &TrainView<'_>) -> Vec<TrainNotice> {
    let (row, now) = (view.row, view.now);
    let is_recent = |at: u64| epoch_millis(now) < at + u64::try_from(SENT_WITHIN.as_millis()).unwrap_or(u64::MAX);
    let condemned = row.condemned.iter().filter(|one| is_recent(one.at));
    let condemned = condemned.map(|one| about_condemnation(view, one));
    let holds = row.holds.iter().filter(|hold| hold.is_active(now) && is_recent(hold.since));
    let holds = holds.map(|hold| about_hold(view, hold));
    condemned.chain(holds).chain(about_unknown(view)).collect()
}

fn about_condemnation(view: &TrainView<'_>, condemned: &Condemned) -> TrainNotice {
    let route = view.route.name();
    let Condemned { repository, revision, seen, at, reason, by } = condemned;
    let change = view.row.change(*seen).map(|one| &one.change);
    let (wave, judge) = match by {
        Judge::Wave(wave) => (Some(wave.as_str()), format!("wave {wave}")),
        Judge::Person(by) => (None, by.clone().unwrap_or_else(|| "a person".to_owned())),
    };
    let event = Event::Condemned {
        revision: RepositoryRevision { repository: repository.clone(), commit: revision.clone() },
        at: *at,
    };
    let code = CodeRow::new(route, wave, event, view.now);
    let of = change.map_or_else(String::new, |change| format!("{}, ", change.source_ref));
    let mut lines = vec![
        format!("Change: {revision}, {of}{}", repository.name()),
        format!("Why: {reason}"),
        format!("By: {judge}"),
    ];
    lines.extend(still_waiting(view, *seen));
    lines.extend(without_image(view, *seen));
    lines.push(
        "The revision enters no wave of this route any more, whatever its branch or tag. Push a new one, or let this \
         one be tried again:"
            .to_owned(),
    );
    lines.push(format!(r#"{{"pardon":"{}","reason":"…"}}"#, code.code()));
    train_notice(format!("{route}: {} is condemned", short(revision)), lines, "condemned", code)
}

/// The targets that wait for a condemned change and start it when they can.
fn still_waiting(view: &TrainView<'_>, seen: u64) -> Vec<String> {
    let has_change = |wave: &&WaveRow| wave.passage.as_ref().is_some_and(|passage| passage.seen == seen);
    let waves = view.row.waves.iter().filter(has_change);
    let waiting: Vec<_> = waves.flat_map(|wave| view.waiting_without_way_back(&wave.name)).collect();
    let line = |(target, report): &(TargetId, &OrderReport)| {
        format!(
            "{target} still waits for this change and starts it when it can ({}): push a newer change to end that",
            reason(report)
        )
    };
    let more = waiting.len().saturating_sub(MOST_LISTED);
    let more = (more > 0).then(|| format!("… and {more} more targets wait"));
    waiting.iter().take(MOST_LISTED).map(line).chain(more).collect()
}

/// The targets that stay with a condemned change, because the image that was healthy there before is gone.
fn without_image(view: &TrainView<'_>, seen: u64) -> Vec<String> {
    let before = |row: &TargetRow| {
        let order = row.standing_order().filter(|order| order.kind == OrderKind::Deploy)?;
        let is_own = order.train.as_ref().is_some_and(|of| of.seen == seen && of.route == view.route.name());
        order.before.clone().filter(|before| is_own && view.row.is_gone(before))
    };
    let rows = view.targets.read.iter();
    let stays: Vec<_> = rows.filter_map(|(target, one)| Some((target, before(&one.row)?))).collect();
    let line = |(target, before): &(&TargetId, Change)| {
        format!(
            "{target} stays as it is: {}, which was healthy there before, was deleted or archived",
            revision(before)
        )
    };
    let more = stays.len().saturating_sub(MOST_LISTED);
    let more = (more > 0).then(|| format!("… and {more} more targets stay"));
    stays.iter().take(MOST_LISTED).map(line).chain(more).collect()
}

fn about_hold(view: &TrainView<'_>, hold: &Hold) -> TrainNotice {
    let route = view.route.name();
    let Hold { wave, source_ref, reason, since, by, .. } = hold;
    let event = Event::Held { source_ref: source_ref.clone(), since: *since };
    let code = CodeRow::new(route, wave.as_deref(), event, view.now);
    let (title, effect) = match wave {
        Some(wave) => (format!("{route}: wave {wave} is held"), "enters the wave. Rollbacks go on."),
        None if view.route.waves().is_empty() => (format!("{route} is held"), "is ordered to its targets."),
        None => (format!("{route}: the train is held"), "enters any wave. Rollbacks go on."),
    };
    let changes =
        source_ref.as_ref().map_or_else(|| "no change".to_owned(), |source_ref| format!("no change of {source_ref}"));
    let lines = vec![
        format!("Until {}, {changes} {effect}", end(hold)),
        format!("Why: {reason}"),
        format!("By: {}", by.as_deref().unwrap_or("a person")),
        format!(r#"To end the hold: {{"resume":"{}"}}"#, code.code()),
    ];
    train_notice(title, lines, "held", code)
}

/// The notices about waves that wait because of unknown targets.
pub(crate) fn about_unknown(view: &TrainView<'_>) -> Vec<TrainNotice> {
    view.route.waves().iter().filter_map(|wave| about_unknown_in(view, wave)).collect()
}

fn about_unknown_in(view: &TrainView<'_>, wave: &Wave) -> Option<TrainNotice> {
    let row = view.row.wave(&wave.name)?;
    // A report concerns one wave, so the rows of the others may not have been read.
    let ids: Vec<TargetId> = wave.targets.iter().map(Target::id).filter(|id| view.targets.has(id)).collect();
    let places = view.observe(row, &ids).places;
    let unknown: Vec<UnknownTarget> = ids
        .iter()
        .zip(places)
        .filter(|(_, place)| place.standing == Standing::Unknown)
        .filter_map(|(id, _)| Some((id.clone(), &view.targets.read.get(id)?.row)))
        .collect();
    let (_, first) = unknown.first()?;
    let sequence = row.passage.as_ref().map_or(0, |passage| passage.sequence);
    let change = row.passage.as_ref().and_then(|passage| view.row.change(passage.seen)).map(|one| &one.change);
    let change = change.or_else(|| first.order.as_ref().map(|order| &order.change))?;
    let orders = unknown.iter().filter_map(|(id, row)| Some((id.clone(), row.order.as_ref()?.number))).collect();
    let named = RepositoryRevision { repository: change.repository.clone(), commit: change.revision.clone() };
    let event = Event::Unknown { revision: named, sequence, orders };
    let code = CodeRow::new(view.route.name(), Some(&wave.name), event, view.now);
    let targets = if unknown.len() == 1 { "target is" } else { "targets are" };
    let mut lines = vec![format!("Change: {} of {}", revision(change), change.repository.name())];
    let line =
        |(target, row): &UnknownTarget| format!("{target}: {}", why(Standing::Unknown, Some(row)).unwrap_or_default());
    lines.extend(unknown.iter().take(MOST_LISTED).map(line));
    if unknown.len() > MOST_LISTED {
        lines.push(format!("… and {} more", unknown.len() - MOST_LISTED));
    }
    lines.push("The wave neither goes on nor goes back until a person decides, or the targets report.".to_owned());
    lines.push(format!(r#"To take them for healthy: {{"accept":"{}","reason":"…"}}"#, code.code()));
    lines.push(format!(r#"To send the wave back: {{"rollback":"{}","reason":"…"}}"#, code.code()));
    let title = format!("{}: wave {} waits, {} {targets} unknown", view.route.name(), wave.name, unknown.len());
    let series = Code::of(&["unknown", view.route.name(), &wave.name, &sequence.to_string()]);
    Some(TrainNotice { series: Some(series), ..train_notice(title, lines, "unknown", code) })
}

/// `train` says which buttons the notice has: the conditions of the buttons in the template compare it.
fn train_notice(title: String, lines: Vec<String>, train: &str, code: CodeRow) -> TrainNotice {
    let context = [("train", train.to_owned()), ("code", code.code().to_string())].into();
    TrainNotice { notice: Notice { title, lines, context, ..Notice::default() }, code, series: None }
}
