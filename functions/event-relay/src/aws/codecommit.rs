//! CodeCommit: reads heads and differences, and lists branches and repositories.

use aws_sdk_codecommit::Client;
use aws_sdk_codecommit::config::http::HttpResponse;
use aws_sdk_codecommit::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codecommit::operation::get_branch::GetBranchError;
use aws_sdk_codecommit::operation::get_folder::GetFolderError;
use aws_sdk_codecommit::operation::get_repository::GetRepositoryError;
use aws_sdk_codecommit::operation::list_branches::ListBranchesError;
use sekisho_domain::change::{RefKind, Revision, SourceRef};
use sekisho_lambda::ServiceError;

use crate::world::{Differences, Head};

/// After these error codes, every retry fails until a person fixes the permissions or the repository's encryption key.
const FINAL: [&str; 7] = [
    "AccessDeniedException",
    "AccessDenied",
    "EncryptionKeyAccessDeniedException",
    "EncryptionKeyDisabledException",
    "EncryptionKeyNotFoundException",
    "InvalidRepositoryNameException",
    "UnrecognizedClientException",
];

/// After these error codes, the changed paths cannot be known, because one of the commits does not exist any more or
/// cannot be compared.
const INCOMPARABLE: [&str; 4] =
    ["CommitDoesNotExistException", "InvalidCommitException", "InvalidCommitIdException", "PathDoesNotExistException"];

/// Reads the head of a branch or tag.
///
/// # Errors
/// CodeCommit did not answer, or the answer has no commit id.
pub async fn head(client: &Client, repository: &str, source_ref: &SourceRef) -> Result<Head, ServiceError> {
    match source_ref.kind() {
        RefKind::Branch => branch_head(client, repository, source_ref.name()).await,
        RefKind::Tag => tag_head(client, repository, source_ref).await,
        // CodeCommit has no images.
        RefKind::Image => Ok(Head::NoRef),
    }
}

async fn branch_head(client: &Client, repository: &str, branch: &str) -> Result<Head, ServiceError> {
    let operation = || format!("CodeCommit's GetBranch for {branch} of {repository}");
    match client.get_branch().repository_name(repository).branch_name(branch).send().await {
        Ok(answer) => {
            let commit = answer.branch.and_then(|branch| branch.commit_id).unwrap_or_default();
            Revision::try_from(commit).map(Head::At).map_err(|error| ServiceError::unexpected(operation(), error))
        }
        Err(error) => match error.as_service_error() {
            Some(GetBranchError::BranchDoesNotExistException(_) | GetBranchError::InvalidBranchNameException(_)) => {
                Ok(Head::NoRef)
            }
            Some(GetBranchError::RepositoryDoesNotExistException(_)) => Ok(Head::NoRepository),
            _ => Err(failed(operation(), error)),
        },
    }
}

/// CodeCommit has no operation that reads a tag. `GetFolder` accepts the full reference and returns the commit that the
/// tag leads to, also for an annotated tag.
async fn tag_head(client: &Client, repository: &str, tag: &SourceRef) -> Result<Head, ServiceError> {
    let operation = || format!("CodeCommit's GetFolder for {tag} of {repository}");
    let folder = client.get_folder().repository_name(repository).commit_specifier(tag.as_str()).folder_path("/");
    match folder.send().await {
        Ok(answer) => {
            let commit = Revision::try_from(answer.commit_id);
            commit.map(Head::At).map_err(|error| ServiceError::unexpected(operation(), error))
        }
        Err(error) => match error.as_service_error() {
            Some(GetFolderError::CommitDoesNotExistException(_) | GetFolderError::InvalidCommitException(_)) => {
                Ok(Head::NoRef)
            }
            Some(GetFolderError::RepositoryDoesNotExistException(_)) => Ok(Head::NoRepository),
            _ => Err(failed(operation(), error)),
        },
    }
}

/// Reads one page of the paths that differ. Returns `None` if the paths cannot be known: a commit is gone, or
/// CodeCommit cannot compare the commits. `None` is not an error, because every retry would fail in the same way, and
/// the error would block the branch permanently.
///
/// # Errors
/// CodeCommit did not answer, or failed for another reason. A passing failure must not start pipelines whose paths the
/// change does not touch.
pub async fn differences(
    client: &Client,
    repository: &str,
    before: &Revision,
    after: &Revision,
    page: Option<String>,
) -> Result<Option<Differences>, ServiceError> {
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
        Err(error) if error.code().is_some_and(|code| INCOMPARABLE.contains(&code)) => Ok(None),
        Err(error) => Err(failed(format!("CodeCommit's GetDifferences for {repository}"), error)),
    }
}

/// Lists the names of all branches. Returns `None` if the repository does not exist.
///
/// # Errors
/// One of the pages could not be read.
pub async fn branches(client: &Client, repository: &str) -> Result<Option<Vec<String>>, ServiceError> {
    let mut pages = client.list_branches().repository_name(repository).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => names.extend(page.branches.unwrap_or_default()),
            Err(error) => {
                return match error.as_service_error() {
                    Some(ListBranchesError::RepositoryDoesNotExistException(_)) => Ok(None),
                    _ => Err(failed(format!("CodeCommit's ListBranches for {repository}"), error)),
                };
            }
        }
    }
    Ok(Some(names))
}

/// When a repository was created, in epoch milliseconds. Returns `None` if the repository does not exist.
///
/// # Errors
/// CodeCommit did not answer, or the answer has no date.
pub async fn created(client: &Client, repository: &str) -> Result<Option<u64>, ServiceError> {
    let operation = || format!("CodeCommit's GetRepository for {repository}");
    match client.get_repository().repository_name(repository).send().await {
        Ok(answer) => {
            let date = answer.repository_metadata.and_then(|metadata| metadata.creation_date);
            let created = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok());
            created.map(Some).ok_or_else(|| ServiceError::unexpected(operation(), "the answer has no creation date"))
        }
        Err(error) => match error.as_service_error() {
            Some(GetRepositoryError::RepositoryDoesNotExistException(_)) => Ok(None),
            _ => Err(failed(operation(), error)),
        },
    }
}

/// Lists the names of all repositories.
///
/// # Errors
/// One of the pages could not be read.
pub async fn repositories(client: &Client) -> Result<Vec<String>, ServiceError> {
    let mut pages = client.list_repositories().into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| failed("CodeCommit's ListRepositories".to_owned(), error))?;
        names.extend(page.repositories.unwrap_or_default().into_iter().filter_map(|r| r.repository_name));
    }
    Ok(names)
}

/// An error of a call. A retry may succeed after every refusal whose code is not in [`FINAL`].
fn failed<E>(operation: String, error: SdkError<E, HttpResponse>) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    ServiceError::new(operation, error).refused_only_for(&FINAL)
}
