//! CodeCommit: heads, differences, lists.

use aws_sdk_codecommit::Client;
use aws_sdk_codecommit::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codecommit::operation::get_branch::GetBranchError;
use aws_sdk_codecommit::operation::list_branches::ListBranchesError;
use sekisho_domain::change::CommitId;

use crate::world::{Differences, Head, Unanswered};

/// What is refused until somebody mends it: permissions, and the key that the repository is encrypted with.
const FINAL: [&str; 7] = [
    "AccessDeniedException",
    "AccessDenied",
    "EncryptionKeyAccessDeniedException",
    "EncryptionKeyDisabledException",
    "EncryptionKeyNotFoundException",
    "InvalidRepositoryNameException",
    "UnrecognizedClientException",
];

/// The head of a branch.
///
/// # Errors
/// Where CodeCommit does not say.
pub async fn head(client: &Client, repository: &str, branch: &str) -> Result<Head, Unanswered> {
    let what = || format!("CodeCommit did not say where {branch} of {repository} points");
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

/// A page of what differs; `None` where that cannot be known: of commits that are gone, or that take CodeCommit longer to
/// compare than it answers. Asked again it would say the same, and the branch would wait for good.
///
/// # Errors
/// Where CodeCommit asks to slow down, or does not let us ask.
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
            let unanswered = unanswered(format!("CodeCommit did not say what changed in {repository}"), error);
            if unanswered.throttled || unanswered.is_final { Err(unanswered) } else { Ok(None) }
        }
    }
}

/// The names of all branches; `None` where there is no such repository.
///
/// # Errors
/// Where CodeCommit does not say.
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

/// The names of all repositories.
///
/// # Errors
/// Where CodeCommit does not say.
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
