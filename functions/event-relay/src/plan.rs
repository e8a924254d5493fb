//! The central decision of the function: what to do about one reference. [`plan`] is a pure function of the ledger's
//! row, the head, the touched routes and the time. The real path carries the plan out, and `explain` describes the same
//! plan.

use sekisho_domain::change::{Change, CommitId, RefKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::Routes;
use sekisho_ledger::Row;
use time::OffsetDateTime;

use crate::branch::{BranchRow, Pending, Untouched};
use crate::delivery::{self, Delivery};
use crate::hint::{Hint, Trigger};
use crate::outcome::{Outcome, about_hint};
use crate::route::{TouchedRoutes, all_deliveries, unrouted};
use crate::world::Head;

/// The facts about a reference. A fact is read only when the plan depends on it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) hint: &'a Hint,
    trigger: Trigger,
    routes: &'a Routes,
    has_route: bool,
    /// The ledger's row; `None` until it is read.
    pub(crate) row: Option<Snapshot>,
    /// The branch's head; `None` until it is read.
    pub(crate) head: Option<Head>,
    pub(crate) touched: TouchedRoutes<'a>,
}

impl<'a> Facts<'a> {
    /// The facts about the reference of `hint`, none of which has been read yet.
    pub(crate) fn new(routes: &'a Routes, hint: &'a Hint, trigger: Trigger) -> Self {
        let touched = TouchedRoutes::new(routes, &hint.repository, &hint.git_ref);
        Self { hint, trigger, routes, has_route: touched.has_route(), row: None, head: None, touched }
    }
}

/// The content of a reference's row at the time when the ledger was read. If the ledger has no row for the reference,
/// the snapshot has an empty row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) row: BranchRow,
    /// The revision that a write must name; `None` if the ledger has no row.
    pub(crate) revision: Option<u64>,
}

impl From<Option<Row<BranchRow>>> for Snapshot {
    fn from(row: Option<Row<BranchRow>>) -> Self {
        row.map(|row| Self { row: row.state, revision: Some(row.revision) }).unwrap_or_default()
    }
}

/// A fact that must be read before the plan is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The ledger's row.
    Row,
    /// The branch's head.
    Head,
    /// The paths that differ between `previous` and `head`. `previous` is the commit that was relayed last, or `None`.
    Paths { previous: Option<CommitId>, head: CommitId },
}

/// The plan for a reference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Wait, because another invocation holds the lease on the pending change. Only `explain` uses the claim, to
    /// describe the plan that follows the pending change.
    Wait(Claim),
    /// Deliver the pending change, which another invocation did not finish. Then plan again.
    Finish(Claim),
    /// Relay the head.
    Relay(Claim),
    /// Send nothing.
    Decide(Verdict),
    /// Make no decision: the pending change was finished, and no route matches the reference any more.
    Nothing,
}

/// The row to write before anything is sent. If the ledger has another revision of the row by then, another invocation
/// has written the row first, and the claim fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The row in which the change is pending, with a new lease. If there is nothing to deliver, no change is pending
    /// in the row.
    pub(crate) row: BranchRow,
    /// The revision that the write replaces; `None` if the ledger has no row.
    pub(crate) replaces: Option<u64>,
    /// Deliveries of the earlier pending change that no route leads to any more.
    pub(crate) dropped: Option<Dropped>,
}

/// Deliveries of a pending change that no route leads to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) change: Change,
    pub(crate) deliveries: Vec<Delivery>,
}

/// A decision after which the function sends nothing to a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision<Outcome>,
    /// The row to write, or `None`. The row stores this head, so that the next reconcile need not compare the head
    /// again.
    pub(crate) remember: Option<Snapshot>,
}

/// Decides what to do about a reference.
///
/// # Errors
/// A fact that the plan depends on has not been read. The caller reads the fact and plans again.
pub(crate) fn plan(facts: &Facts<'_>, now: OffsetDateTime) -> Result<Plan, Missing> {
    let hint = facts.hint;
    if !facts.has_route && facts.trigger != Trigger::Pending {
        return Ok(decided(hint, None, Outcome::Filtered, "no route matches this repository and reference"));
    }
    // The row is read before the head, so that an old head cannot get a newer sequence.
    let Snapshot { row, revision } = facts.row.as_ref().ok_or(Missing::Row)?;
    if let Some(pending) = &row.pending {
        let claim = claim_pending(row, pending, *revision, facts.routes, now);
        return Ok(if pending.is_leased(now) { Plan::Wait(claim) } else { Plan::Finish(claim) });
    }
    if !facts.has_route {
        return Ok(Plan::Nothing);
    }
    let head = match &facts.head {
        None => return Err(Missing::Head),
        Some(Head::At(commit)) => commit,
        Some(Head::NoRef) => {
            return Ok(decided(hint, None, Outcome::Ignored, "the branch does not exist, or no longer exists"));
        }
        Some(Head::NoRepository) => {
            return Ok(decided(hint, None, Outcome::Ignored, "the repository does not exist, or no longer exists"));
        }
    };
    let was_relayed = row.commit.as_ref() == Some(head);
    if was_relayed {
        return Ok(decided(hint, Some(head), Outcome::Duplicate, "this head was already relayed"));
    }
    plan_for_paths(facts, head, now)
}

/// Decides about a head that was not relayed before. The changed paths decide which targets get the head.
fn plan_for_paths(facts: &Facts<'_>, head: &CommitId, now: OffsetDateTime) -> Result<Plan, Missing> {
    let hint = facts.hint;
    let Snapshot { row, revision } = facts.row.as_ref().ok_or(Missing::Row)?;
    let no_path = Verdict {
        decision: decision(hint, Some(head), Outcome::Filtered, "the change touches no path of its routes"),
        remember: None,
    };
    let untouched = Untouched { commit: head.clone(), paths: facts.touched.paths_digest().to_owned() };
    if row.untouched.as_ref() == Some(&untouched) {
        return Ok(Plan::Decide(no_path));
    }
    if facts.touched.wants_paths() {
        return Err(Missing::Paths { previous: row.commit.clone(), head: head.clone() });
    }
    let deliveries = facts.touched.deliveries();
    if deliveries.is_empty() {
        // The head is stored only after a reconcile. An event comes once, but a reconcile runs every five minutes and
        // would compare the same commits each time.
        let is_repeated = facts.trigger != Trigger::Event && hint.git_ref.kind() == RefKind::Branch;
        let remember = (is_repeated && revision.is_some())
            .then(|| Snapshot { row: BranchRow { untouched: Some(untouched), ..row.clone() }, revision: *revision });
        return Ok(Plan::Decide(Verdict { remember, ..no_path }));
    }
    if !delivery::fit_row(&deliveries) {
        let reason = format!(
            "the change goes to {} accounts and regions, more than a ledger row can hold (about 6,000), so it was sent \
             to none: configure fewer targets",
            deliveries.len()
        );
        return Ok(decided(hint, Some(head), Outcome::Failed, &reason));
    }
    let change = Change {
        kind: hint.git_ref.kind(),
        repository: hint.repository.clone(),
        git_ref: hint.git_ref.clone(),
        commit: head.clone(),
        previous: row.commit.clone(),
        sequence: row.next_sequence(now),
        actor: hint.actor.clone(),
        event: hint.event.clone(),
    };
    Ok(Plan::Relay(Claim { row: row.with_pending(change, deliveries, None, now), replaces: *revision, dropped: None }))
}

/// Returns the claim that continues a pending change. If the configuration was corrected and some deliveries have lost
/// their routes, the claim drops the change. The function then makes a new plan for a branch's head. A tag has no head
/// that could be read, so the claim has the tag's change with a new sequence, for the targets that are routed now.
fn claim_pending(
    row: &BranchRow,
    pending: &Pending,
    revision: Option<u64>,
    routes: &Routes,
    now: OffsetDateTime,
) -> Claim {
    let change = &pending.change;
    let deliveries: Vec<Delivery> =
        pending.deliveries.iter().filter_map(|delivery| unrouted(routes, change, delivery)).collect();
    if deliveries.is_empty() {
        return Claim { row: row.leased(now), replaces: revision, dropped: None };
    }
    let dropped = Some(Dropped { change: change.clone(), deliveries });
    let row = row.dropped();
    let corrected = all_deliveries(routes, change);
    if change.kind == RefKind::Branch || corrected.is_empty() {
        return Claim { row, replaces: revision, dropped };
    }
    let change = Change { sequence: row.next_sequence(now), previous: None, ..change.clone() };
    Claim { row: row.with_pending(change, corrected, pending.at, now), replaces: revision, dropped }
}

fn decision(hint: &Hint, head: Option<&CommitId>, outcome: Outcome, reason: &str) -> Decision<Outcome> {
    about_hint(hint, Decision::new(outcome, reason)).about_some("commit", head.map(CommitId::as_str))
}

fn decided(hint: &Hint, head: Option<&CommitId>, outcome: Outcome, reason: &str) -> Plan {
    Plan::Decide(Verdict { decision: decision(hint, head, outcome, reason), remember: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sekisho_domain::config::Document;
    use sekisho_domain::timestamp::epoch_millis;
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    /// A configuration that routes the branch `main` and the tags `v*`, for changes of paths that match `api/**`.
    const CONFIG: &str = r#"
        [[route]]
        repository = "shop"
        branches = ["main"]
        tags = ["v*"]
        paths = ["api/**"]
        [[route.target]]
        account = "222222222222"
        region = "ap-northeast-1"
        pipeline = "api"
        action = "Source"
    "#;

    fn routes(pipeline: &str) -> Routes {
        let config = CONFIG.replace(r#"pipeline = "api""#, &format!("pipeline = \"{pipeline}\""));
        Document::parse("t", &config).unwrap().routes().unwrap()
    }

    fn commit(n: u64) -> CommitId {
        format!("{n:040x}").parse().unwrap()
    }

    fn branch_hint(branch: &str) -> Hint {
        let repository = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
        Hint {
            event: Some("event".to_owned()),
            ..Hint::without_event(&repository, format!("refs/heads/{branch}").parse().unwrap())
        }
    }

    fn tag_hint(event: &str, at: u64) -> Hint {
        let _ = at;
        Hint { git_ref: "refs/tags/v1".parse().unwrap(), event: Some(event.to_owned()), ..branch_hint("main") }
    }

    /// A row whose first commit was relayed.
    fn relayed() -> BranchRow {
        BranchRow { commit: Some(commit(1)), sequence: 7, ..BranchRow::default() }
    }

    /// A row with a pending change to the second commit for the pipeline `api`.
    fn pending(hint: &Hint) -> BranchRow {
        let change = Change {
            kind: hint.git_ref.kind(),
            repository: hint.repository.clone(),
            git_ref: hint.git_ref.clone(),
            commit: commit(2),
            previous: None,
            sequence: 8,
            actor: None,
            event: None,
        };
        relayed().with_pending(change.clone(), all_deliveries(&routes("api"), &change), None, NOW)
    }

    /// Describes a plan in one line, so that a table of cases can contain the expected plan.
    fn summary(plan: Result<Plan, Missing>) -> String {
        let claim = |claim: &Claim| {
            let pending = claim.row.pending.as_ref();
            let change = pending.map_or("no change".to_owned(), |p| {
                format!("sequence {} to {}", p.change.sequence, p.deliveries[0].pipelines[0])
            });
            let dropped = claim.dropped.as_ref().map_or(0, |dropped| dropped.deliveries.len());
            format!("{change}, {dropped} dropped, replaces {:?}", claim.replaces)
        };
        match plan {
            Err(Missing::Row) => "read the row".to_owned(),
            Err(Missing::Head) => "read the head".to_owned(),
            Err(Missing::Paths { previous, .. }) => format!("read the paths since {}", previous.is_some()),
            Ok(Plan::Wait(then)) => format!("wait: {}", claim(&then)),
            Ok(Plan::Finish(first)) => format!("finish: {}", claim(&first)),
            Ok(Plan::Relay(head)) => format!("relay: {}", claim(&head)),
            Ok(Plan::Decide(verdict)) => {
                format!("{:?}, remember {}", verdict.decision.outcome, verdict.remember.is_some())
            }
            Ok(Plan::Nothing) => "nothing".to_owned(),
        }
    }

    /// The input of a plan. The row, the head and the changed path are `None` if they have not been read.
    struct Case {
        hint: Hint,
        trigger: Trigger,
        pipeline: &'static str,
        row: Option<Snapshot>,
        head: Option<Head>,
        changed: Option<&'static str>,
    }

    fn plan_of(case: Case, now: OffsetDateTime) -> String {
        let routes = routes(case.pipeline);
        let mut facts = Facts::new(&routes, &case.hint, case.trigger);
        (facts.row, facts.head) = (case.row, case.head);
        if let Some(path) = case.changed {
            facts.touched.add_paths(&BTreeSet::from([path.to_owned()]));
            facts.touched = facts.touched.without_further_paths();
        }
        summary(plan(&facts, now))
    }

    fn stored(row: BranchRow) -> Snapshot {
        Snapshot { row, revision: Some(3) }
    }

    #[test]
    fn the_plan_for_a_branch() {
        let main = || Case {
            hint: branch_hint("main"),
            trigger: Trigger::Event,
            pipeline: "api",
            row: None,
            head: None,
            changed: None,
        };
        let with_row = |row: BranchRow| Case { row: Some(stored(row)), ..main() };
        let at = |n: u64| Case { head: Some(Head::At(commit(n))), ..with_row(relayed()) };
        let (routes, hint) = (routes("api"), branch_hint("main"));
        let digest = TouchedRoutes::new(&routes, &hint.repository, &hint.git_ref).paths_digest().to_owned();
        let untouched = BranchRow { untouched: Some(Untouched { commit: commit(2), paths: digest }), ..relayed() };
        let clock = epoch_millis(NOW);
        let ahead = BranchRow { sequence: clock + 5, ..relayed() };
        let cases: [(Case, String); 15] = [
            (Case { hint: branch_hint("other"), ..main() }, "Filtered, remember false".into()),
            (main(), "read the row".into()),
            (with_row(relayed()), "read the head".into()),
            (Case { head: Some(Head::NoRef), ..with_row(relayed()) }, "Ignored, remember false".into()),
            (Case { head: Some(Head::NoRepository), ..with_row(relayed()) }, "Ignored, remember false".into()),
            (at(1), "Duplicate, remember false".into()),
            (at(2), "read the paths since true".into()),
            (Case { row: Some(Snapshot::default()), ..at(2) }, "read the paths since false".into()),
            (Case { row: Some(stored(untouched)), ..at(2) }, "Filtered, remember false".into()),
            (Case { changed: Some("README.md"), ..at(2) }, "Filtered, remember false".into()),
            (
                Case { trigger: Trigger::Reconcile, changed: Some("README.md"), ..at(2) },
                "Filtered, remember true".into(),
            ),
            (
                Case { changed: Some("api/x"), ..at(2) },
                format!("relay: sequence {clock} to api, 0 dropped, replaces Some(3)"),
            ),
            (
                Case { changed: Some("api/x"), row: Some(stored(ahead)), ..at(2) },
                format!("relay: sequence {} to api, 0 dropped, replaces Some(3)", clock + 6),
            ),
            (
                Case { changed: Some("api/x"), row: Some(Snapshot::default()), ..at(2) },
                format!("relay: sequence {clock} to api, 0 dropped, replaces None"),
            ),
            (Case { trigger: Trigger::Pending, hint: branch_hint("other"), ..with_row(relayed()) }, "nothing".into()),
        ];
        for (index, (case, expected)) in cases.into_iter().enumerate() {
            assert_eq!(plan_of(case, NOW), expected, "case {index}");
        }
    }

    #[test]
    fn the_plan_for_a_pending_change() {
        let later = NOW + Duration::minutes(1);
        let (branch, tag) = (branch_hint("main"), tag_hint("event", 5));
        let clock = epoch_millis(later);
        let cases = [
            (&branch, "api", NOW, "wait: sequence 8 to api, 0 dropped, replaces Some(3)".to_owned()),
            (&branch, "api", later, "finish: sequence 8 to api, 0 dropped, replaces Some(3)".to_owned()),
            (&branch, "corrected", later, "finish: no change, 1 dropped, replaces Some(3)".to_owned()),
            (&tag, "api", later, "finish: sequence 8 to api, 0 dropped, replaces Some(3)".to_owned()),
            (&tag, "corrected", later, format!("finish: sequence {clock} to corrected, 1 dropped, replaces Some(3)")),
        ];
        for (hint, pipeline, now, expected) in cases {
            let row = Some(stored(pending(hint)));
            let case = Case { hint: hint.clone(), trigger: Trigger::Event, pipeline, row, head: None, changed: None };
            assert_eq!(plan_of(case, now), expected);
        }
    }
}
