//! The request to send the targets of a wave back.

use sekisho_domain::change::Change;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::TargetId;
use sekisho_domain::slack;

use super::{Answer, Ask, Effect};
use crate::ordering::Placed;
use crate::outcome::Outcome;
use crate::selection::listed;
use crate::sources::Sources;
use crate::status::revision;
use crate::target::{TargetRow, TrainOrder};
use crate::train::{Hold, TrainRow};
use crate::wave::Standing;

impl Ask<'_> {
    pub(super) fn rollback(&self) -> Answer {
        self.check_notice()?;
        let row = self.view.row;
        let wave = self.wave.unwrap_or_default();
        let passage = row.wave(wave).and_then(|wave| wave.passage.as_ref());
        let Some((passage, one)) = passage.and_then(|passage| Some((passage, row.change(passage.seen)?))) else {
            return Ok(self.nothing(format!("Nothing to send back: no change entered {} yet.", self.place())));
        };
        let change = &one.change;
        if let Some(source_ref) = self.source_ref.filter(|source_ref| change.source_ref != **source_ref) {
            return Ok(self.nothing(format!(
                "Nothing to send back: the last change of {} is {}, and not of {}.",
                self.place(),
                revision(change),
                slack::shown(source_ref.name())
            )));
        }
        let has_change = |standing: Standing| {
            matches!(standing, Standing::Waiting | Standing::Running | Standing::Healthy | Standing::Unknown)
        };
        if passage.recalled && !self.standings().iter().any(|(_, standing)| has_change(*standing)) {
            return Ok(self.nothing(format!(
                "Nothing is left to send back: {} was sent back from {} already.",
                revision(change),
                self.place()
            )));
        }
        let mut after = row.clone();
        after.recall(wave, self.by.map(ToOwned::to_owned), self.reason, self.now());
        after.hold(Hold { reason: format!("sent back: {}", self.reason), ..self.new_hold() });
        let targets = self.rollbacks_again(&mut after);
        let answer = format!(
            "{} is condemned, and each target of {} that has it goes back to what was healthy there before. The wave \
             is held until `resume`.{}{}",
            revision(change),
            self.place(),
            again(&targets),
            self.without_way_back(wave)
        );
        let reason = format!("a person sent the change back: {}", self.reason);
        let decision = Some(self.decision_about(change, Outcome::Condemned, reason));
        Ok(Effect { row: after, targets, decision, answer })
    }

    /// New orders of kind `rollback` for the targets whose rollback is unknown. The train itself does not repeat them,
    /// because it cannot know why they are unknown.
    fn rollbacks_again(&self, row: &mut TrainRow) -> Vec<Placed> {
        let mut again = Vec::new();
        for (target, _) in self.standings().into_iter().filter(|(_, standing)| *standing == Standing::Unknown) {
            let Some(snapshot) = self.view.targets.read.get(&target) else { continue };
            let order = snapshot.row.standing_order().filter(|order| order.kind == OrderKind::Rollback);
            let own = order.and_then(|order| Some((order, order.train.as_ref()?)));
            let Some((order, of)) = own.filter(|(_, of)| of.route == self.view.route.name()) else { continue };
            let change = Change { sequence: row.next_sequence(self.now()), ..order.change.clone() };
            let train = TrainOrder { accepted: false, ..of.clone() };
            let sources = Sources::new(self.view.routes, &target);
            let ordered = snapshot.row.ordered(&change, (OrderKind::Rollback, train), sources, self.now());
            again.push(Placed { target, row: ordered, replaces: snapshot.revision });
        }
        again
    }

    /// What the answer says about the targets that have the wave's change and cannot go back from it.
    fn without_way_back(&self, wave: &str) -> String {
        let waiting: Vec<TargetId> = self.view.waiting_without_way_back(wave).map(|(target, _)| target).collect();
        let has_it = |standing| matches!(standing, Standing::Running | Standing::Healthy | Standing::Unknown);
        let row = |target: &TargetId| self.view.targets.read.get(target).map(|snapshot| &snapshot.row);
        let others = self.standings().into_iter().filter(|(target, standing)| {
            let order = row(target).and_then(TargetRow::standing_order).filter(|order| order.kind == OrderKind::Deploy);
            has_it(*standing) && order.is_some_and(|order| !order.has_way_back())
        });
        let has_answered = |target: &TargetId| row(target).is_some_and(|row| row.current_report().is_some());
        let (stays, silent): (Vec<TargetId>, Vec<TargetId>) = others.map(|(target, _)| target).partition(has_answered);
        let lines = [
            (
                waiting,
                "it still waits for this change and starts it when it can. To end that, push a newer change and \
                       send `resume`",
            ),
            (stays, "it stays as it is"),
            (
                silent,
                "it has not answered to the order, which is soon not offered any more. If it got the order all the \
                 same, it starts the change and reports that",
            ),
        ];
        let line = |(targets, what): &(Vec<TargetId>, &str)| {
            let is_some = !targets.is_empty();
            is_some.then(|| format!(" Nothing was healthy before in {}: {what}.", named(targets)))
        };
        lines.iter().filter_map(line).collect::<Vec<String>>().concat()
    }
}

fn again(targets: &[Placed]) -> String {
    let ids: Vec<TargetId> = targets.iter().map(|placed| placed.target.clone()).collect();
    if ids.is_empty() { String::new() } else { format!(" The unknown rollback of {} is ordered again.", named(&ids)) }
}

fn named(targets: &[TargetId]) -> String {
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    listed(names.iter().map(String::as_str))
}
