//! The references of one repository that a reconcile examines, and the mistakes in the routes.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::account::Region;
use sekisho_domain::change::{RefKind, RepositoryArn, SourceRef};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Routes};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Row;
use time::OffsetDateTime;

use crate::branch::BranchRow;
use crate::error::Error;
use crate::outcome::{Outcome, needs_repair};
use crate::repository::{Covering, RepositoryRow};
use crate::selection::routes_here;
use crate::snapshot::Snapshot;
use crate::world::Head;

/// The default interval of the schedule, in milliseconds.
const INTERVAL: u64 = 300_000;

/// A git tag whose commit was relayed longer ago than this, in milliseconds, rests: tags seldom move.
const RESTS_AFTER: u64 = 24 * 3_600_000;
/// The most resting git tags of one repository that a reconcile reads. Reading each tag that was ever seen would take
/// longer with every release.
const RESTING_TAGS: usize = 10;

/// A row of the ledger, or the error that occurred when the row was read.
pub(crate) type RowResult = Result<Row<BranchRow>, sekisho_ledger::Error>;

/// A repository and the names of its branches.
#[derive(Debug)]
pub(crate) struct Branches {
    pub(crate) repository: RepositoryArn,
    pub(crate) names: Vec<String>,
}

/// A reference that its repository's service lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) source_ref: SourceRef,
    /// The head. `None` if it must be read: CodeCommit lists branches without their commits.
    pub(crate) head: Option<Head>,
    /// When the image was pushed, in milliseconds since 1970. 0 if the head is `None`.
    pub(crate) pushed: i64,
}

/// A reference and its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) repository: RepositoryArn,
    pub(crate) source_ref: SourceRef,
    pub(crate) snapshot: Snapshot<BranchRow>,
}

/// What a reconcile does with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Compare the head with the row, and order what is new.
    Settle,
    /// Record the head without an order, because it existed before a route covered the reference.
    Record,
}

/// A reference to examine.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) reference: Reference,
    pub(crate) task: Task,
    /// The head, if the list of the references has it.
    pub(crate) head: Option<Head>,
}

/// The references of one repository that a reconcile must examine.
#[derive(Debug, Default)]
pub(crate) struct Worklist {
    /// The references to examine, several at a time. Each reconcile begins with another one.
    pub(crate) tasks: Vec<Examination>,
    /// The references to examine one after the other: those with new images, in the order in which the images were
    /// pushed, so that the image that was pushed last is the newest change.
    pub(crate) in_turn: Vec<Examination>,
    /// The git tags that rest in this reconcile.
    pub(crate) resting: Vec<Reference>,
    /// The references that no longer exist and whose rows do not expire yet.
    pub(crate) deleted: Vec<Reference>,
    /// The decisions about mistakes in the routes and about rows that cannot be read.
    pub(crate) mistakes: Vec<Decision<Outcome>>,
}

impl Worklist {
    /// The worklist of a repository that lists these references and has these rows. `listed` is `None` if the
    /// repository does not exist.
    pub(crate) fn new(
        repository: &RepositoryArn,
        listed: Option<Vec<Listed>>,
        rows: Vec<RowResult>,
        stored: &RepositoryRow,
        covering: Covering<'_>,
        now: OffsetDateTime,
    ) -> Self {
        let mut worklist = Self::default();
        let is_upgrade = rows.iter().flatten().any(|row| row.state.targets.is_none());
        let (routes, covering) = (covering.routes, Covering { is_upgrade, ..covering });
        let mut rows = worklist.readable(repository, rows);
        let exists = listed.is_some();
        let mut existing: BTreeMap<SourceRef, Listed> =
            listed.unwrap_or_default().into_iter().map(|one| (one.source_ref.clone(), one)).collect();
        if exists {
            worklist.mistakes.extend(missing_branches(repository, &existing, routes));
        } else {
            worklist.mistakes.extend(missing_repository(repository, routes));
        }
        // CodeCommit lists no git tags. The known ones are those with a row and those that a route names.
        let named = routes.iter().filter(|route| route.covers_repository(repository));
        let tags = named.flat_map(|route| route.literal_names(RefKind::Tag)).filter_map(|tag| SourceRef::tag(tag).ok());
        let mut known: BTreeSet<SourceRef> = rows.keys().cloned().collect();
        known.extend(existing.keys().cloned());
        known.extend(tags.filter(|_| exists));
        let mut pushed = Vec::new();
        for source_ref in known {
            let Some(snapshot) = rows.remove(&source_ref).unwrap_or_else(|| Some(Snapshot::default())) else {
                continue;
            };
            let found = match existing.remove(&source_ref) {
                Some(listed) => Found::Listed(listed),
                None if exists && source_ref.kind() == RefKind::Tag => Found::Unlisted,
                None => Found::No,
            };
            let reference = Reference { repository: repository.clone(), source_ref, snapshot };
            worklist.add(reference, found, stored, covering, now, &mut pushed);
        }
        pushed.sort_by(|(one, first), (other, second)| {
            (one, &first.reference.source_ref).cmp(&(other, &second.reference.source_ref))
        });
        worklist.in_turn = pushed.into_iter().map(|(_, examination)| examination).collect();
        rotate(&mut worklist.resting, now);
        let read: Vec<Reference> = worklist.resting.drain(..RESTING_TAGS.min(worklist.resting.len())).collect();
        worklist.tasks.extend(read.into_iter().map(|tag| Examination {
            reference: tag,
            task: Task::Settle,
            head: None,
        }));
        worklist.resting.retain(|tag| tag.snapshot.row.expires.is_none());
        rotate(&mut worklist.tasks, now);
        worklist
    }

    /// The rows by reference. An unreadable row becomes a decision, and its reference has `None`, so that it is not
    /// examined as a reference without a row.
    fn readable(
        &mut self,
        repository: &RepositoryArn,
        rows: Vec<RowResult>,
    ) -> BTreeMap<SourceRef, Option<Snapshot<BranchRow>>> {
        let mut readable = BTreeMap::new();
        for row in rows {
            let (sk, snapshot) = match row {
                Ok(row) => (row.sk.clone(), Some(Snapshot::from(Some(row)))),
                Err(error) => {
                    let sk = match &error {
                        sekisho_ledger::Error::Unreadable { key, .. } => key.sk.clone(),
                        _ => String::new(),
                    };
                    let decision = needs_repair(&Error::from(error));
                    self.mistakes.push(decision.about("repository", repository.as_str()));
                    (sk, None)
                }
            };
            if let Ok(source_ref) = sk.parse() {
                readable.insert(source_ref, snapshot);
            }
        }
        readable
    }

    fn add(
        &mut self,
        reference: Reference,
        found: Found,
        stored: &RepositoryRow,
        covering: Covering<'_>,
        now: OffsetDateTime,
        pushed: &mut Vec<(i64, Examination)>,
    ) {
        let Reference { repository, source_ref, snapshot } = &reference;
        let is_routed = covering.routes.concerning(repository, source_ref).next().is_some();
        let row = snapshot.revision.map(|_| &snapshot.row);
        let is_pending = snapshot.row.pending.is_some();
        let (head, at) = match found {
            Found::No if is_pending => (None, 0),
            Found::No => {
                if snapshot.row.expires.is_none() {
                    self.deleted.push(reference);
                }
                return;
            }
            // Nothing is recorded about a signature, so that an image that gets the tag later is new.
            Found::Listed(Listed { head: Some(Head::Unroutable(_)), .. }) if !is_pending => return,
            Found::Listed(Listed { head, pushed, .. }) => (head, pushed),
            Found::Unlisted => (None, 0),
        };
        if is_pending {
            self.tasks.push(Examination { reference, task: Task::Settle, head });
        } else if is_routed && stored.is_baseline(covering, repository, source_ref, row, u64::try_from(at).unwrap_or(0))
        {
            self.tasks.push(Examination { reference, task: Task::Record, head });
        } else if is_routed && rests(&reference, now) {
            self.resting.push(reference);
        } else if is_routed {
            let is_new = matches!(&head, Some(Head::At(digest)) if snapshot.row.commit.as_ref() != Some(digest));
            let examination = Examination { reference, task: Task::Settle, head };
            if is_new { pushed.push((at, examination)) } else { self.tasks.push(examination) }
        }
    }
}

/// Whether a repository has a reference.
enum Found {
    /// The list of the references has it.
    Listed(Listed),
    /// The list has no references of this kind: the head must be read.
    Unlisted,
    /// The reference does not exist.
    No,
}

/// Whether the reference is a git tag that has not moved for a while.
fn rests(Reference { source_ref, snapshot: Snapshot { row, .. }, .. }: &Reference, now: OffsetDateTime) -> bool {
    source_ref.kind() == RefKind::Tag
        && row.commit.is_some()
        && row.targets.is_some()
        && row.sequence.saturating_add(RESTS_AFTER) < epoch_millis(now)
}

/// The decision about a repository that a route names without a glob and that does not exist.
fn missing_repository(repository: &RepositoryArn, routes: &Routes) -> Option<Decision<Outcome>> {
    let reason = "a route names this repository, but it does not exist: create it, or correct the route";
    let decision = || Decision::new(Outcome::Failed, reason).about("repository", repository.as_str());
    routes.iter().any(|route| is_named(route, repository)).then(decision)
}

fn is_named(route: &Route, repository: &RepositoryArn) -> bool {
    route.covers_repository(repository) && route.repository().literal().is_some()
}

/// The decisions about branches that a route of this repository names without a glob and that do not exist.
fn missing_branches(
    repository: &RepositoryArn,
    existing: &BTreeMap<SourceRef, Listed>,
    routes: &Routes,
) -> impl Iterator<Item = Decision<Outcome>> {
    let named: BTreeSet<&str> = routes
        .iter()
        .filter(|route| is_named(route, repository))
        .flat_map(|route| route.literal_names(RefKind::Branch))
        .collect();
    let exists = |branch: &str| SourceRef::branch(branch).is_ok_and(|branch| existing.contains_key(&branch));
    named.into_iter().filter(move |branch| !exists(branch)).map(|branch| {
        let reason = "a route names this branch, but it does not exist: create it, or correct the route";
        Decision::new(Outcome::Failed, reason).about("repository", repository.as_str()).about("ref", branch)
    })
}

/// The decisions about routes that name their repository by a glob and lead to nothing: no repository matches the glob,
/// or no matching repository has a branch that the route names. A branch that only some of the matching repositories
/// lack is not a mistake.
pub(crate) fn unmatched_globs(routes: &Routes, here: &Region, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let globs = routes_here(routes, here).filter(|route| route.repository().literal().is_none());
    globs.flat_map(|route| unmatched_by(route, found)).collect()
}

fn unmatched_by(route: &Route, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let pattern = route.repository().pattern();
    let matching: Vec<&Branches> = found.iter().filter(|one| route.covers_repository(&one.repository)).collect();
    if matching.is_empty() {
        let reason = format!("no repository matches `{pattern}` in a route: create one, or correct the route");
        return vec![Decision::new(Outcome::Failed, reason)];
    }
    let branches: BTreeSet<&str> = matching.into_iter().flat_map(|one| &one.names).map(String::as_str).collect();
    let missing = route.literal_names(RefKind::Branch).filter(|name| !branches.contains(name));
    let decision = |branch: &str| {
        let reason = format!(
            "no repository that matches `{pattern}` in a route has this branch: create it, or correct the route"
        );
        Decision::new(Outcome::Failed, reason).about("ref", branch)
    };
    missing.map(decision).collect()
}

/// Rotates the list so that each reconcile begins with another element. Without the rotation, a reconcile that runs out
/// of time would never reach the last elements. The starting point moves by the golden ratio of the list's length each
/// time, so a few reconciles reach every large part of the list.
pub(crate) fn rotate<T>(list: &mut [T], now: OffsetDateTime) {
    let fraction = (epoch_millis(now) / INTERVAL).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let length = u64::try_from(list.len()).unwrap_or(0) & u64::from(u32::MAX);
    list.rotate_left(usize::try_from((fraction * length) >> 32).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;
    use sekisho_ledger::Key;
    use time::macros::datetime;

    use super::*;
    use crate::repository::Globs;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    const CONFIG: &str = r#"
        [[route]]
        repository = "shop"
        branches = ["main", "missing", "release/*"]
        tags = ["v*", "named"]
        [[route.target]]
        account = "222222222222"
        region = "ap-northeast-1"
        pipeline = "shop"
        action = "Source"
    "#;

    fn row(source_ref: &str, row: BranchRow) -> Row<BranchRow> {
        Row { sk: source_ref.to_owned(), revision: 1, state: row }
    }

    fn shop() -> RepositoryArn {
        "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap()
    }

    fn relayed() -> BranchRow {
        BranchRow { commit: Some("0123456789abcdef0123456789abcdef01234567".parse().unwrap()), ..BranchRow::default() }
    }

    fn pending(source_ref: &str) -> BranchRow {
        let change = relayed().change(&shop(), &source_ref.parse().unwrap()).unwrap();
        relayed().with_pending(change, vec![], vec![], NOW)
    }

    /// The references of a worklist and their tasks, sorted.
    fn tasks(worklist: &Worklist) -> Vec<(&str, Task)> {
        let tasks = worklist.tasks.iter();
        let mut tasks: Vec<_> = tasks.map(|one| (one.reference.source_ref.as_str(), one.task)).collect();
        tasks.sort_unstable();
        tasks
    }

    fn worklist(branches: &[&str], rows: Vec<RowResult>, stored: &RepositoryRow) -> Worklist {
        let routes = Document::parse("t", CONFIG).unwrap().routes().unwrap();
        let branch = |name: &&str| Listed { source_ref: SourceRef::branch(name).unwrap(), head: None, pushed: 0 };
        let branches = branches.iter().map(branch).collect();
        Worklist::new(&shop(), Some(branches), rows, stored, covering(&routes, &Globs::default()), NOW)
    }

    fn covering<'r>(routes: &'r Routes, globs: &'r Globs) -> Covering<'r> {
        Covering { routes, globs, caches_ended: 0, created: 0, is_upgrade: false }
    }

    #[test]
    fn a_worklist_has_routed_and_pending_references_but_no_unreadable_rows() {
        let unreadable = Key { pk: "branch".to_owned(), sk: "refs/heads/release/3".to_owned() };
        let rows = vec![
            Ok(row("refs/heads/release/1", relayed())),
            Ok(row("refs/heads/gone", pending("refs/heads/gone"))),
            Ok(row("refs/tags/v1", relayed())),
            Ok(row("refs/tags/other", relayed())),
            Err(sekisho_ledger::Error::Unreadable { key: unreadable, source: "no sequence".into() }),
        ];
        let stored = RepositoryRow { tags_seen: true, ..RepositoryRow::default() };
        let worklist = worklist(&["main", "other", "release/1", "release/2", "release/3"], rows, &stored);
        let expected = [
            ("refs/heads/gone", Task::Settle),
            ("refs/heads/main", Task::Settle),
            ("refs/heads/release/1", Task::Settle),
            ("refs/heads/release/2", Task::Record),
            ("refs/tags/named", Task::Settle),
            ("refs/tags/v1", Task::Settle),
        ];
        assert_eq!(tasks(&worklist), expected);
        let refs: Vec<_> = worklist.mistakes.iter().map(|mistake| mistake.concerns.get("ref").cloned()).collect();
        assert_eq!(refs, [None, Some("missing".to_owned())]);
        assert!(worklist.deleted.is_empty());
    }

    #[test]
    fn the_row_of_a_deleted_branch_expires_once() {
        let rows =
            || vec![Ok(row("refs/heads/release/1", relayed())), Ok(row("refs/heads/old", relayed().expiring(NOW)))];
        let deleted = |worklist: Worklist| worklist.deleted.into_iter().map(|one| one.source_ref.to_string()).collect();
        let refs: Vec<String> = deleted(worklist(&["main"], rows(), &RepositoryRow::default()));
        assert_eq!(refs, ["refs/heads/release/1"]);
        let routes = Document::parse("t", CONFIG).unwrap().routes().unwrap();
        let globs = Globs::default();
        let gone = Worklist::new(&shop(), None, rows(), &RepositoryRow::default(), covering(&routes, &globs), NOW);
        assert_eq!((tasks(&gone), gone.mistakes.len()), (vec![], 1));
        assert_eq!(deleted(gone), ["refs/heads/release/1"]);
    }

    #[test]
    fn a_few_old_tags_are_read_in_each_reconcile_and_all_of_them_count_for_joins() {
        let tag = |n: u64, sequence| {
            let state = BranchRow { sequence, ..relayed().covering(vec![]) };
            Ok(row(&format!("refs/tags/v{n}"), if n == 99 { state.expiring(NOW) } else { state }))
        };
        let rows = || (0..100).map(|n| tag(n, 1)).chain([tag(100, epoch_millis(NOW))]).collect();
        let routes = Document::parse("t", CONFIG).unwrap().routes().unwrap();
        let stored = RepositoryRow { tags_seen: true, ..RepositoryRow::default() };
        let mut reached = BTreeSet::new();
        for tick in 0..50_u32 {
            let now = NOW + time::Duration::minutes(5) * tick;
            let globs = Globs::default();
            let worklist = Worklist::new(&shop(), Some(vec![]), rows(), &stored, covering(&routes, &globs), now);
            let read: BTreeSet<String> =
                worklist.tasks.iter().map(|one| one.reference.source_ref.to_string()).collect();
            assert_eq!(read.len(), RESTING_TAGS + 2, "the moved tag and the named one are always read");
            assert!(read.contains("refs/tags/v100") && read.contains("refs/tags/named"));
            let gone = usize::from(!read.contains("refs/tags/v99"));
            assert_eq!(worklist.resting.len(), 90 - gone);
            reached.extend(read);
        }
        assert_eq!(reached.len(), 102);
    }

    #[test]
    fn every_part_of_a_long_list_comes_first_within_twenty_reconciles() {
        let mut reached = BTreeSet::new();
        for tick in 0..20_u32 {
            let mut list: Vec<usize> = (0..13_000).collect();
            rotate(&mut list, OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(5) * tick);
            reached.extend(list.into_iter().take(2_000));
        }
        assert_eq!(reached.len(), 13_000);
        rotate::<u8>(&mut [], OffsetDateTime::UNIX_EPOCH);
    }
}
