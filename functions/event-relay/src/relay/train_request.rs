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
use crate::ordering::Placed;
use crate::relay::examine::target_rows;
use crate::relay::resend::cut;
use crate::relay::train::advance;
use crate::run::Run;
use crate::snapshot::{Snapshot, TargetRows};
use crate::train::{self, TrainRow};
use crate::train_effect::{Ask, Effect, effect};
use crate::train_request::{TrainAction, TrainRequest};
use crate::train_text::TrainView;
use crate::world::World;

/// Does what a person asks for, records the decisions and returns the answer.
pub(crate) async fn answer<W: World>(run: &Run<'_, W>, request: &TrainRequest) -> Result<String, Error> {
    let names = find(run, request).await?;
    if request.is_dry_run || request.action == TrainAction::Train {
        let facts = Facts::read(run, &names).await?;
        let effect = facts.effect(run, request, &names)?;
        return Ok(cut(&if request.is_dry_run { facts.preview(run, &names, effect) } else { effect.answer }));
    }
    let mut log = DecisionLog::default();
    if Facts::read(run, &names).await?.has_left {
        // The configuration was changed. The targets that left the route are closed first.
        log.extend(advance(run, names.route, Scope::All).await?.into_decisions());
    }
    let Effect { decision, answer, .. } = run.until_unchanged(async || change(run, request, &names).await).await?;
    let mut lines = vec![answer];
    if let Some(decision) = decision {
        log.push(decision);
        // The request is in the ledger, so it must not fail any more.
        match advance(run, names.route, Scope::All).await {
            Ok(advanced) => log.extend(advanced.into_decisions()),
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

/// Changes the rows as the request asks for. [`sekisho_ledger::Error::Changed`] means that the caller must try again.
async fn change<W: World>(run: &Run<'_, W>, request: &TrainRequest, names: &Names<'_>) -> Result<Effect, Error> {
    let facts = Facts::read(run, names).await?;
    let effect = facts.effect(run, request, names)?;
    if effect.decision.is_some() {
        write(run, names.route, &effect, facts.revision).await?;
    }
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
    /// Whether targets left the route since the train was looked at last.
    has_left: bool,
    targets: TargetRows,
}

impl Facts {
    async fn read<W: World>(run: &Run<'_, W>, names: &Names<'_>) -> Result<Self, Error> {
        let row = run.world.ledger().read::<TrainRow>(&train::key(names.route.name())).await?;
        let Snapshot { row, revision } = Snapshot::from(row);
        let (row, left) = row.configured(names.route);
        let of_wave = names.route.waves().iter().filter(|wave| names.wave.as_ref() == Some(&wave.name));
        let ids: BTreeSet<TargetId> = match names.needs_rows {
            names::Rows::All => names.route.targets().iter().map(Target::id).collect(),
            names::Rows::OfWave => of_wave.flat_map(|wave| &wave.targets).map(Target::id).collect(),
        };
        Ok(Self { row, revision, has_left: !left.is_empty(), targets: target_rows(run, &ids).await? })
    }

    /// What a request would do, and what the train would do next.
    fn preview<W: World>(self, run: &Run<'_, W>, names: &Names<'_>, effect: Effect) -> String {
        let mut lines = vec!["Nothing was changed. Without `dry_run`, the answer is:".to_owned(), effect.answer];
        let mut targets = self.targets;
        for Placed { target, row, replaces } in effect.targets {
            targets.read.insert(target, Snapshot { row, revision: replaces });
        }
        let (routes, route) = (run.routes, names.route);
        let facts = TrainFacts { routes, route, row: effect.row, targets, scope: Scope::All };
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
            git_ref: names.git_ref.as_ref(),
            revision: names.revision.as_ref(),
            event: names.event.as_ref(),
            reason: request.reason.as_deref().unwrap_or_default(),
            until: request.length.map(|length| epoch_millis(run.now() + length)),
            by: names.by.as_deref(),
        })
    }
}
