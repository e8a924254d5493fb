//! The promises of the functions, which must hold after every history.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pipeline_starter::claim::{self, ClaimRow, Progress};
use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn, SourceChange};
use sekisho_domain::route::PipelineName;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::account::Shared;

const REPOSITORY: &str = "arn:aws:codecommit:ap-northeast-1:111111111111:shop";

/// A sentence that describes a broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// Each pipeline with the branch that it follows and the path that it watches, as in the model's configuration.
const FOLLOWS: [(&str, &str, Option<&str>); 3] =
    [("all", "main", None), ("api", "main", Some("api/main.rs")), ("release", "release/1", None)];

pub(crate) fn check(shared: &Shared) -> Result<(), Broken> {
    changes_follow_the_branch(shared)?;
    let pipelines = shared.pipelines.borrow();
    for (pipeline, branch, path) in FOLLOWS {
        let changes = changes_by_token(shared, pipeline)?;
        let executions = pipelines.get(pipeline).map(Vec::as_slice).unwrap_or_default();
        let mut last: Option<&Change> = None;
        for execution in executions {
            let Some(change) = changes.get(&execution.token) else {
                return Err(Broken(format!("{pipeline}: an execution belongs to no change")));
            };
            if change.commit != execution.commit {
                return Err(Broken(format!("{pipeline}: {} does not run at the commit of its change", execution.id)));
            }
            match last {
                Some(last) if last.sequence == change.sequence => {
                    return Err(Broken(format!("{pipeline}: sequence {} was started twice", change.sequence)));
                }
                Some(last) if last.sequence > change.sequence => {
                    return Err(Broken(format!("{pipeline}: went back from {} to {}", last.sequence, change.sequence)));
                }
                _ => last = Some(change),
            }
        }
        let branches = shared.branches.borrow();
        let Some(head) = branches.get(branch) else { continue };
        // The head is not checked if the pipeline did not exist when its change arrived. The change then has the
        // decision `failed` instead of an execution.
        if last_state(shared, pipeline, branch)?.is_some_and(|state| matches!(state.progress, Progress::Failed(_))) {
            continue;
        }
        let Some(last) = last else {
            return Err(Broken(format!("{pipeline}: {branch} exists and nothing was started")));
        };
        let trees = shared.trees.borrow();
        let at_head = match path {
            None => last.commit == *head,
            Some(path) => trees.get(&last.commit).map(|t| t.get(path)) == trees.get(head).map(|t| t.get(path)),
        };
        if !at_head {
            return Err(Broken(format!("{pipeline}: is at {}, but {branch} is at {head}", last.commit)));
        }
    }
    Ok(())
}

/// Checks that the changes of a branch, in the order of their sequences, follow the branch's heads, and that no two
/// successive changes have the same head.
fn changes_follow_the_branch(shared: &Shared) -> Result<(), Broken> {
    let mut changes: BTreeMap<String, BTreeMap<u64, CommitId>> = BTreeMap::new();
    for detail in shared.relayed.borrow().iter() {
        let change = SourceChange::parse(detail).map_err(|error| Broken(error.to_string()))?.change;
        let branch = changes.entry(change.git_ref.name().to_owned()).or_default();
        if branch.insert(change.sequence, change.commit.clone()).is_some_and(|other| other != change.commit) {
            return Err(Broken(format!("{}: sequence {} has two heads", change.git_ref, change.sequence)));
        }
    }
    let heads = shared.heads.borrow();
    for (branch, changes) in changes {
        let mut heads = heads.get(&branch).map(Vec::as_slice).unwrap_or_default().iter();
        let mut last = None;
        for (sequence, commit) in &changes {
            if last.replace(commit) == Some(commit) {
                return Err(Broken(format!("{branch}: {commit} was relayed again, with sequence {sequence}")));
            }
            if !heads.any(|head| head == commit) {
                return Err(Broken(format!("{branch}: {commit} was relayed after a newer head, with {sequence}")));
            }
        }
    }
    Ok(())
}

/// The ledger's row of a pipeline and branch, if there is a row.
fn last_state(shared: &Shared, pipeline: &str, branch: &str) -> Result<Option<ClaimRow>, Broken> {
    let broken = |error: &dyn std::fmt::Display| Broken(error.to_string());
    let name = PipelineName::try_from(pipeline.to_owned()).map_err(|error| broken(&error))?;
    let repository: RepositoryArn = REPOSITORY.parse().map_err(|error| broken(&error))?;
    let git_ref = GitRef::branch(branch).map_err(|error| broken(&error))?;
    let key = claim::key(&name, &repository, &git_ref);
    let mut reading = pin!(shared.starter_ledger.read::<ClaimRow>(&key));
    match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(row) => Ok(row.map_err(|error| broken(&error))?.map(|row| row.state)),
        Poll::Pending => Err(Broken("a ledger in memory answers at once".to_owned())),
    }
}

/// Returns the change that belongs to each client request token of a pipeline.
fn changes_by_token(shared: &Shared, pipeline: &str) -> Result<BTreeMap<String, Change>, Broken> {
    let name = PipelineName::try_from(pipeline.to_owned()).map_err(|error| Broken(error.to_string()))?;
    let mut changes = BTreeMap::new();
    for detail in shared.relayed.borrow().iter() {
        let event = SourceChange::parse(detail).map_err(|error| Broken(error.to_string()))?;
        let token = ClaimRow::new(&event.change, &name, OffsetDateTime::UNIX_EPOCH).token;
        changes.insert(token, event.change);
    }
    Ok(changes)
}
