//! CodeCommit: reads heads, differences and lists.

use aws_sdk_codecommit::Client;
use aws_sdk_codecommit::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codecommit::operation::get_branch::GetBranchError;
use aws_sdk_codecommit::operation::list_branches::ListBranchesError;
use sekisho_domain::change::CommitId;

use crate::world::{Differences, Head, Unanswered};

/// Error codes that stay until a person repairs the permissions or the key that the repository is encrypted with.
const FINAL: [&str; 7] = [
    "AccessDeniedException",
    "AccessDenied",
    "EncryptionKeyAccessDeniedException",
    "EncryptionKeyDisabledException",
    "EncryptionKeyNotFoundException",
    "InvalidRepositoryNameException",
    "UnrecognizedClientException",
];

/// Reads the head of a branch.
///
/// # Errors
/// CodeCommit did not answer, or the answer has no commit id.
pub async fn head(client: &Client, repository: &str, branch: &str) -> Result<Head, Unanswered> {
    let what = || format!("CodeCommit did not return the head of {branch} of {repository}");
    match client.get_branch().repository_name(repository).branch_name(branch).send().await {
        Ok(answer) => {
            let commit = answer.branch.and_then(|branch| branch.commit_id).unwrap_or_default();
            let commit = CommitId::try_from(commit).map_err(|error| Unanswered {
                what: what(),
                throttled: false,
                is_final: false,
                source: Some(error.into()),
            })?;
            Ok(Head::At(commit))
        }
        Err(error) => match error.as_service_error() {
            Some(GetBranchError::BranchDoesNotExistException(_) | GetBranchError::InvalidBranchNameException(_)) => {
                Ok(Head::NoBranch)
            }
            Some(GetBranchError::RepositoryDoesNotExistException(_)) => Ok(Head::NoRepository),
            _ => Err(unanswered(what(), error)),
        },
    }
}

/// Reads one page of the paths that differ. Returns `None` if the paths cannot be known: a commit is gone, or CodeCommit
/// fails to compare the commits. The same failure would come on every retry and block the branch permanently.
///
/// # Errors
/// CodeCommit throttles the call, or denies it.
pub async fn differences(
    client: &Client,
    repository: &str,
    before: &CommitId,
    after: &CommitId,
    page: Option<String>,
) -> Result<Option<Differences>, Unanswered> {
    let answer = client
        .get_differences()
        .repository_name(repository)
        .before_commit_specifier(before.as_str())
        .after_commit_specifier(after.as_str())
        .set_next_token(page)
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let next = answer.next_token().filter(|token| !token.is_empty()).map(ToOwned::to_owned);
            let blobs = answer.differences.unwrap_or_default().into_iter().flat_map(|d| [d.before_blob, d.after_blob]);
            let paths = blobs.flatten().filter_map(|blob| blob.path).collect();
            Ok(Some(Differences { paths, next }))
        }
        Err(error) => {
            let unanswered = unanswered(format!("CodeCommit did not return the changed paths of {repository}"), error);
            if unanswered.throttled || unanswered.is_final { Err(unanswered) } else { Ok(None) }
        }
    }
}

/// Lists the names of all branches; `None` if the repository does not exist.
///
/// # Errors
/// CodeCommit did not answer for one of the pages.
pub async fn branches(client: &Client, repository: &str) -> Result<Option<Vec<String>>, Unanswered> {
    let mut pages = client.list_branches().repository_name(repository).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => names.extend(page.branches.unwrap_or_default()),
            Err(error) => {
                return match error.as_service_error() {
                    Some(ListBranchesError::RepositoryDoesNotExistException(_)) => Ok(None),
                    _ => Err(unanswered(format!("CodeCommit did not list the branches of {repository}"), error)),
                };
            }
        }
    }
    Ok(Some(names))
}

/// Lists the names of all repositories.
///
/// # Errors
/// CodeCommit did not answer for one of the pages.
pub async fn repositories(client: &Client) -> Result<Vec<String>, Unanswered> {
    let mut pages = client.list_repositories().into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unanswered("CodeCommit did not list the repositories".to_owned(), error))?;
        names.extend(page.repositories.unwrap_or_default().into_iter().filter_map(|r| r.repository_name));
    }
    Ok(names)
}

fn unanswered<E>(what: String, error: SdkError<E>) -> Unanswered
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let throttled = error.code().is_some_and(|code| code.contains("Throttl") || code == "TooManyRequestsException");
    let is_final = error.code().is_some_and(|code| FINAL.contains(&code));
    Unanswered { what, throttled, is_final, source: Some(error.into()) }
}
