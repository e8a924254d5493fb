//! event-relay has seen the last head of each branch and tag, and has ordered it.

use event_relay::branch::{self, BranchRow};
use sekisho_domain::change::{CommitId, GitRef, RefKind};

use super::orders::{self, Orders};
use super::traffic::Traffic;
use super::{Broken, TARGETS, Target, read, target_row};
use crate::configuration::PATH_ROUTE;
use crate::developer;
use crate::history::History;
use crate::repository;

/// Checks that the changes of a branch or tag, in the order of their sequences, follow its heads, that the ledger has
/// the last head, and that nothing was ordered for a baseline.
pub(crate) fn are_followed(history: &History, traffic: &Traffic) -> Result<(), Broken> {
    for git_ref in developer::refs() {
        let changes = changes(traffic, &git_ref)?;
        let heads = history.cloud.repository.past_heads(&git_ref);
        let mut heads = heads.iter();
        let mut last = None;
        for (sequence, change) in &changes {
            // If the paths of a head cannot be read, the targets with a path filter get the head later, with a sequence
            // of its own.
            let is_repeated = last.replace(&change.commit) == Some(&change.commit);
            if !is_repeated && !heads.any(|head| *head == change.commit) {
                let commit = &change.commit;
                return Err(Broken(format!("{git_ref}: {commit} was ordered after a newer head, with {sequence}")));
            }
        }
        let row = row(history, &git_ref)?;
        let is_baseline = history.baselines.contains(&git_ref) || row.as_ref().is_some_and(|row| row.baseline);
        if is_baseline && !changes.is_empty() {
            return Err(Broken(format!("{git_ref} is a baseline and was ordered")));
        }
        let Some(head) = history.cloud.repository.head(&git_ref) else { continue };
        let is_followed = TARGETS.iter().any(|target| target.follows(&git_ref, history.deployment.newest));
        // CodeCommit does not list tags, so a tag whose events were lost is not known, unless a route names the tag.
        let must_be_known = git_ref.kind() == RefKind::Branch || git_ref.name() == "live";
        match row {
            None if is_followed && must_be_known => return Err(Broken(format!("{git_ref} has no row"))),
            Some(row) if is_followed && row.commit.as_ref() != Some(&head) => {
                return Err(Broken(format!("{git_ref} is at {head}, and the ledger has {:?}", row.commit)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that the target's last order is the newest of the heads that the target follows.
pub(crate) fn are_ordered(history: &History, target: &Target) -> Result<(), Broken> {
    let order = target_row(&history.cloud, target)?.order.map(|order| order.change);
    for git_ref in developer::refs().filter(|git_ref| target.follows(git_ref, history.deployment.newest)) {
        let Some(head) = history.cloud.repository.head(&git_ref) else { continue };
        let Some(row) = row(history, &git_ref)? else { continue };
        let is_old = history.upgrade.sequence(&git_ref) == Some(row.sequence);
        if row.baseline || is_old {
            continue;
        }
        let Some(order) = &order else {
            let is_untouched =
                history.upgrade.commit(&git_ref).is_some_and(|old| !differs(history, target, old, &head));
            if is_untouched {
                continue;
            }
            return Err(Broken(format!("{}: {git_ref} is at {head}, and nothing was ordered", target.id())));
        };
        // With a path filter, the order may be at an older commit with the same content. If the target already should
        // have run the head when it was seen, the head was not ordered, and may have a sequence for which nothing was
        // ordered.
        let placed = orders::placed(&history.cloud, target);
        let was_placed = placed.iter().any(|one| one.change.git_ref == git_ref && one.change.sequence == row.sequence);
        let had_head = || placed.iter().any(|one| !differs(history, target, &one.change.commit, &head));
        let is_older = order.sequence < row.sequence && differs(history, target, &order.commit, &head);
        if is_older && (was_placed || !had_head()) {
            let commit = &order.commit;
            return Err(Broken(format!("{}: {git_ref} is at {head}, and the order at {commit}", target.id())));
        }
        if order.git_ref == git_ref && order.sequence == row.sequence && order.commit != head {
            return Err(Broken(format!("{}: the order is not at the head of {git_ref}", target.id())));
        }
    }
    Ok(())
}

/// Checks that each order of a target with a path filter changed the path. If the changed paths are not known, or the
/// target joins again, the target gets the head in any case.
pub(crate) fn touch_the_path(history: &History, target: &Target) -> Result<(), Broken> {
    if target.path.is_none()
        || history.deployment.relay_has_changed(PATH_ROUTE)
        || history.cloud.repository.without_paths.get() > 0
    {
        return Ok(());
    }
    let placed = orders::placed(&history.cloud, target);
    for (order, next) in placed.iter().zip(placed.iter().skip(1)) {
        if !differs(history, target, &order.change.commit, &next.change.commit) {
            return Err(Broken(format!("{}: order {} does not touch its path", target.id(), next.number)));
        }
    }
    Ok(())
}

/// Whether two commits differ for a target.
fn differs(history: &History, target: &Target, one: &CommitId, other: &CommitId) -> bool {
    let differences = history.cloud.repository.differences(one, other);
    match target.path {
        None => one != other,
        Some(path) => differences.is_none_or(|paths| paths.contains(path)),
    }
}

/// The changes of a branch or tag that were ordered, by their sequences.
fn changes(traffic: &Traffic, git_ref: &GitRef) -> Result<Orders, Broken> {
    let mut changes = Orders::new();
    for change in traffic.changes().filter(|change| change.git_ref == *git_ref) {
        let earlier = changes.insert(change.sequence, change.clone());
        if earlier.is_some_and(|earlier| earlier.commit != change.commit) {
            return Err(Broken(format!("{git_ref}: sequence {} has two heads", change.sequence)));
        }
    }
    Ok(changes)
}

fn row(history: &History, git_ref: &GitRef) -> Result<Option<BranchRow>, Broken> {
    read(&history.cloud.relay_ledger, &branch::key(&repository::arn(), git_ref))
}
