//! event-relay has seen the last head of each branch and tag, and has ordered it.

use std::collections::BTreeMap;

use event_relay::branch::BranchRow;
use event_relay::target::PlacedOrder;
use sekisho_domain::change::{Change, RefKind, Revision};

use super::{Broken, TARGETS, Target, orders, read, references, target_row};
use crate::cloud::Placing;
use crate::configuration::PATH_ROUTE;
use crate::history::History;
use crate::repository::Reference;

/// Checks that the changes of a branch or tag, in the order of their sequences, follow its heads, that the ledger has
/// the last head, and that nothing was ordered for a baseline.
pub(crate) fn are_followed(history: &History) -> Result<(), Broken> {
    for reference in references() {
        for is_after_loss in [false, true] {
            follow(history, &reference, is_after_loss)?;
        }
        let row = row(history, &reference)?;
        if history.baselines.contains(&reference) || row.as_ref().is_some_and(|row| row.baseline) {
            is_not_ordered(history, &reference)?;
        }
        let Some(head) = history.cloud.head(&reference) else { continue };
        let is_followed = TARGETS.iter().any(|target| target.follows(&reference, history.deployment.newest));
        // CodeCommit does not list tags, so a tag whose events were lost is not known, unless a route names the tag.
        let must_be_known = reference.source_ref.kind() != RefKind::Tag || reference.source_ref.name() == "live";
        match row {
            None if is_followed && must_be_known => return Err(Broken(format!("{reference} has no row"))),
            Some(row) if is_followed && row.commit.as_ref() != Some(&head) => {
                return Err(Broken(format!("{reference} is at {head}, and the ledger has {:?}", row.commit)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that the changes that were ordered before or after the loss of event-relay's ledger follow the heads.
fn follow(history: &History, reference: &Reference, is_after_loss: bool) -> Result<(), Broken> {
    let heads = history.cloud.repositories[reference.repository].past_heads(&reference.source_ref);
    let mut heads = heads.iter();
    let mut last = None;
    for (sequence, commit) in &changes(history, reference, is_after_loss)? {
        // If the paths of a head cannot be read, the targets with a path filter get the head later, with a sequence of
        // its own.
        let is_repeated = last.replace(commit) == Some(commit);
        if !is_repeated && !heads.any(|head| head == commit) {
            return Err(Broken(format!("{reference}: {commit} was ordered after a newer head, with {sequence}")));
        }
    }
    Ok(())
}

/// Checks that event-relay ordered nothing for a branch or tag since its ledger exists. Only a person may do so.
fn is_not_ordered(history: &History, reference: &Reference) -> Result<(), Broken> {
    let placed = history.cloud.placed.borrow();
    let is_lost = history.cloud.is_ledger_lost.get();
    let mut since_loss = placed.iter().filter(|placing| placing.is_after_loss == is_lost);
    let is_wrong = |placing: &Placing| {
        Reference::of(&placing.order.change) == *reference && !history.lambda.by_people.contains(&placing.request)
    };
    if since_loss.any(is_wrong) { Err(Broken(format!("{reference} is a baseline and was ordered"))) } else { Ok(()) }
}

/// Checks that the target's last order is the newest of the heads that the target follows.
pub(crate) fn are_ordered(history: &History, target: &Target) -> Result<(), Broken> {
    let last = target_row(&history.cloud, target)?.order.map(|order| order.change);
    for reference in references().filter(|one| target.follows(one, history.deployment.newest)) {
        let Some(head) = history.cloud.head(&reference) else { continue };
        let Some(row) = row(history, &reference)? else { continue };
        let is_old = history.upgrade.sequence(&reference) == Some(row.sequence);
        if row.baseline || is_old {
            continue;
        }
        // With two sources, the last order may be about the other one.
        let own =
            || orders::since_loss(&history.cloud, target).into_iter().rfind(|one| is_alike(&one.change, &reference));
        let order = match &last {
            Some(last) if !is_alike(last, &reference) => own().map(|order| order.change),
            last => last.clone(),
        };
        let Some(order) = &order else {
            let is_untouched =
                history.upgrade.commit(&reference).is_some_and(|old| !differs(history, target, old, &head));
            if is_untouched {
                continue;
            }
            return Err(Broken(format!("{}: {reference} is at {head}, and nothing was ordered", target.id())));
        };
        // With a path filter, the order may be at an older commit with the same content. If the target already should
        // have run the head when it was seen, the head was not ordered, and may have a sequence for which nothing was
        // ordered.
        let placed = orders::since_loss(&history.cloud, target);
        let is_placed =
            |one: &PlacedOrder| Reference::of(&one.change) == reference && one.change.sequence == row.sequence;
        let was_placed = placed.iter().any(is_placed);
        let had_head = || placed.iter().any(|one| !differs(history, target, &one.change.revision, &head));
        // An order whose reference lost its route is replaced by one about another reference at the same commit.
        let alike = placed.iter().rev().take_while(|one| one.change.revision == order.revision);
        let newest = alike.map(|one| one.change.sequence).max().unwrap_or(order.sequence);
        let is_older = newest < row.sequence && differs(history, target, &order.revision, &head);
        if is_older && (was_placed || !had_head()) {
            let commit = &order.revision;
            return Err(Broken(format!("{}: {reference} is at {head}, and the order at {commit}", target.id())));
        }
        if Reference::of(order) == reference && order.sequence == row.sequence && order.revision != head {
            return Err(Broken(format!("{}: the order is not at the head of {reference}", target.id())));
        }
    }
    Ok(())
}

/// Checks that each order of a target with a path filter changed the path. If the changed paths are not known, or the
/// target joins again, the target gets the head in any case.
pub(crate) fn touch_the_path(history: &History, target: &Target) -> Result<(), Broken> {
    if target.path.is_none()
        || history.deployment.relay_has_changed(PATH_ROUTE)
        || history.cloud.is_ledger_lost.get()
        || target.repositories.iter().any(|one| history.cloud.repositories[*one].without_paths.get() > 0)
    {
        return Ok(());
    }
    let placed = orders::since_loss(&history.cloud, target);
    for (order, next) in placed.iter().zip(placed.iter().skip(1)) {
        if !differs(history, target, &order.change.revision, &next.change.revision) {
            return Err(Broken(format!("{}: order {} does not touch its path", target.id(), next.number)));
        }
    }
    Ok(())
}

/// Whether a change gives its revision to the same source action as a reference does.
fn is_alike(change: &Change, reference: &Reference) -> bool {
    change.kind.source() == reference.source_ref.kind().source()
}

/// Whether two commits differ for a target.
fn differs(history: &History, target: &Target, one: &Revision, other: &Revision) -> bool {
    let Some(path) = target.path else { return one != other };
    let mut repositories = target.repositories.iter().map(|index| &history.cloud.repositories[*index]);
    repositories.all(|one_of| one_of.differences(one, other).is_none_or(|paths| paths.contains(path)))
}

/// The sequences and commits of the changes of a branch or tag that were ordered before or after the loss of
/// event-relay's ledger.
fn changes(history: &History, reference: &Reference, is_after_loss: bool) -> Result<BTreeMap<u64, Revision>, Broken> {
    let mut changes = BTreeMap::new();
    let placed = history.cloud.placed.borrow();
    for placing in placed.iter().filter(|placing| placing.is_after_loss == is_after_loss) {
        let change = &placing.order.change;
        if Reference::of(change) == *reference {
            let earlier = changes.insert(change.sequence, change.revision.clone());
            if earlier.is_some_and(|earlier| earlier != change.revision) {
                return Err(Broken(format!("{reference}: sequence {} has two heads", change.sequence)));
            }
        }
    }
    Ok(changes)
}

fn row(history: &History, reference: &Reference) -> Result<Option<BranchRow>, Broken> {
    read(&history.cloud.relay_ledger, &reference.key())
}
