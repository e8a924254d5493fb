//! The requests of people about trains: finds what a request names, changes the rows, and moves the train on.

mod names;

use std::collections::BTreeSet;

use sekisho_domain::route::{Route, Target, TargetId};
use sekisho_domain::slack;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{MAX_TRANSACTION, Store, Write};

use self::names::{Names, find};
use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::next::{Scope, TrainFacts, next};
use crate::notice::due;
use crate::ordering::{Placed, orders};
use crate::outcome::Outcome;
use crate::relay::examine::target_rows;
use crate::relay::notify::{Occasion, notify};
use crate::relay::offer::offer;
use crate::relay::resend::cut;
use crate::relay::source;
use crate::relay::train::advance;
use crate::run::Run;
use crate::snapshot::{Snapshot, TargetRows};
use crate::train::{self, TrainRow, WaveRow};
use crate::train_effect::{Ask, Effect, effect};
use crate::train_request::{TrainAction, TrainRequest};
use crate::train_text::TrainView;
use crate::world::World;

/// Does what a person asks for, records the decisions and returns the answer.
pub(crate) async fn answer<W: World>(run: &Run<'_, W>, request: &TrainRequest) -> Result<String, Error> {
    let names = find(run, request).await?;
    if request.is_read_only() {
        let facts = Facts::read(run, &names).await?;
        let effect = facts.effect(run, request, &names)?;
        return Ok(cut(&if request.is_dry_run { facts.preview(run, &names, effect) } else { effect.answer }));
    }
    let mut log = DecisionLog::default();
    let is_plain = names.route.waves().is_empty();
    if !is_plain {
        let facts = Facts::read(run, &names).await?;
        if facts.is_outdated {
            // A request that is refused writes nothing.
            facts.effect(run, request, &names)?;
            // The configuration was changed. The targets that left the route are closed, and newcomers are found first.
            log.extend(advance(run, names.route, Scope::All).await?.into_decisions());
        }
    }
    let Effect { decision, answer, targets, .. } =
        run.until_unchanged(async || change(run, request, &names).await).await?;
    let mut lines = vec![answer];
    if let Some(decision) = decision {
        log.push(decision);
        if request.action == TrainAction::Rollback {
            // If a bus does not accept an order, the reconcile offers the order again.
            offer(run, &orders(&targets)).await;
        }
        // The request is in the ledger, so it must not fail any more.
        let advanced = if is_plain { announce(run, &names).await } else { advance(run, names.route, Scope::All).await };
        match advanced {
            Ok(advanced) => {
                let advanced = advanced.into_decisions();
                let failed = advanced.iter().filter(|decision| decision.outcome == Outcome::Failed);
                lines.extend(failed.map(|decision| slack::shown(&format!("{}.", decision.reason))));
                log.extend(advanced);
            }
            Err(error) => lines.push(format!("The next reconcile goes on with it: {}.", chain(&error))),
        }
        if let (Some(wave), Ok(facts)) = (names.wave.as_deref(), Facts::read(run, &names).await) {
            lines.push(facts.view(run, &names).wave_text(wave));
        }
    }
    if run.record(&mut log).await.is_err() {
        lines.insert(0, "The ledger did not record this request; the function's log did.".to_owned());
    }
    Ok(cut(&lines.join("\n")))
}

/// Sends the notice about a hold of a route without waves.
async fn announce<W: World>(run: &Run<'_, W>, names: &Names<'_>) -> Result<DecisionLog, Error> {
    let facts = Facts::read(run, names).await?;
    let mut log = DecisionLog::default();
    log.extend(notify(run, names.route, due(&facts.view(run, names)), Occasion::Pass).await);
    Ok(log)
}

/// Changes the rows as the request asks for. [`sekisho_ledger::Error::Changed`] means that the caller must try again.
async fn change<W: World>(run: &Run<'_, W>, request: &TrainRequest, names: &Names<'_>) -> Result<Effect, Error> {
    let facts = Facts::read(run, names).await?;
    let mut effect = facts.effect(run, request, names)?;
    if effect.decision.is_none() {
        return Ok(effect);
    }
    if request.action == TrainAction::Rollback {
        // Only a rollback places orders itself, so its images must still exist.
        for gone in source::gone(run, &effect.targets).await {
            effect.without_gone(&gone);
        }
    }
    if names.route.waves().is_empty() {
        // If the route gets its waves back, they have their state again.
        effect.row.waves.clone_from(&facts.stored_waves);
        effect.row.holds.retain(|hold| hold.is_active(run.now()));
    }
    write(run, names.route, &effect, facts.revision).await?;
    Ok(effect)
}

/// Writes the rows. The train's row is in every transaction, because its revision keeps invocations apart.
async fn write<W: World>(
    run: &Run<'_, W>,
    route: &Route,
    effect: &Effect,
    mut revision: Option<u64>,
) -> Result<(), Error> {
    let parts: Vec<&[Placed]> = effect.targets.chunks(MAX_TRANSACTION - 1).collect();
    for part in if parts.is_empty() { vec![&[][..]] } else { parts } {
        let mut writes = vec![Write::new(train::key(route.name()), &effect.row, revision)?];
        for one in part {
            writes.push(one.write()?);
        }
        run.write_all(&writes).await?;
        revision = Some(revision.unwrap_or(0) + 1);
    }
    Ok(())
}

/// The rows on which a request depends.
struct Facts {
    row: TrainRow,
    revision: Option<u64>,
    /// The waves in the ledger.
    stored_waves: Vec<WaveRow>,
    /// Whether targets left the route, or the route got its waves, since the train was looked at last.
    is_outdated: bool,
    targets: TargetRows,
}

impl Facts {
    async fn read<W: World>(run: &Run<'_, W>, names: &Names<'_>) -> Result<Self, Error> {
        let row = run.world.ledger().read::<TrainRow>(&train::key(names.route.name())).await?;
        let Snapshot { row, revision } = Snapshot::from(row);
        let stored_waves = row.waves.clone();
        let (row, left) = row.configured(names.route);
        let of_wave = names.route.waves().iter().filter(|wave| names.wave.as_ref() == Some(&wave.name));
        let ids: BTreeSet<TargetId> = match names.needs_rows {
            names::Rows::All => names.route.targets().iter().map(Target::id).collect(),
            names::Rows::OfWave => of_wave.flat_map(|wave| &wave.targets).map(Target::id).collect(),
        };
        let targets = target_rows(run, &ids).await?;
        let is_outdated = !left.is_empty() || stored_waves.is_empty();
        Ok(Self { row, revision, stored_waves, is_outdated, targets })
    }

    /// What a request would do, and what the train would do next.
    fn preview<W: World>(self, run: &Run<'_, W>, names: &Names<'_>, effect: Effect) -> String {
        let mut lines = vec!["Nothing was changed. Without `dry_run`, the answer is:".to_owned(), effect.answer];
        let mut targets = self.targets;
        for Placed { target, row, replaces } in effect.targets {
            targets.read.insert(target, Snapshot { row, revision: replaces });
        }
        let (routes, route) = (run.routes, names.route);
        let facts = TrainFacts { routes, route, row: effect.row, targets, scope: Scope::All, gone: vec![] };
        let next = next(&facts, run.now()).map(|next| next.decisions).unwrap_or_default();
        lines.extend(next.into_iter().map(|decision| format!("Then {}.", slack::shown(&decision.reason))));
        lines.join("\n")
    }

    fn view<'a, W: World>(&'a self, run: &Run<'a, W>, names: &Names<'a>) -> TrainView<'a> {
        TrainView { routes: run.routes, route: names.route, row: &self.row, targets: &self.targets, now: run.now() }
    }

    fn effect<W: World>(&self, run: &Run<'_, W>, request: &TrainRequest, names: &Names<'_>) -> Result<Effect, Error> {
        names.check_wave(request.action, &self.row)?;
        effect(&Ask {
            action: request.action,
            view: self.view(run, names),
            wave: names.wave.as_deref(),
            source_ref: names.source_ref.as_ref(),
            revision: names.revision.as_ref(),
            event: names.event.as_ref(),
            reason: request.reason.as_deref().unwrap_or_default(),
            until: request.length.map(|length| epoch_millis(run.now() + length)),
            by: names.by.as_deref(),
        })
    }
}
