//! ECR: reads and lists images, and lists repositories.

use std::collections::BTreeSet;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::describe_images::DescribeImagesError;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatus, Repository, TagStatus};
use sekisho_domain::change::Revision;
use sekisho_lambda::ServiceError;

use crate::image::{Image, ImageRepository};
use crate::world::{FoundImage, ImageId};

/// After these error codes, every retry fails until a person fixes the permissions or the repository's encryption key.
const FINAL: [&str; 5] = [
    "AccessDeniedException",
    "AccessDenied",
    "InvalidParameterException",
    "KmsException",
    "UnrecognizedClientException",
];
/// The largest page of `DescribeImages` and `DescribeRepositories`.
const PAGE: i32 = 1000;

/// Reads an image by its tag or digest.
///
/// # Errors
/// ECR did not answer, or the answer has no digest.
pub async fn image(client: &Client, repository: &str, id: &ImageId<'_>) -> Result<FoundImage, ServiceError> {
    let operation = || format!("ECR's DescribeImages for {id} of {repository}");
    let identifier = match id {
        ImageId::Tag(tag) => ImageIdentifier::builder().image_tag(*tag),
        ImageId::Digest(digest) => ImageIdentifier::builder().image_digest(digest.as_str()),
    };
    match client.describe_images().repository_name(repository).image_ids(identifier.build()).send().await {
        Ok(answer) => match answer.image_details.unwrap_or_default().into_iter().next() {
            Some(detail) => {
                read(detail).map(FoundImage::At).map_err(|error| ServiceError::unexpected(operation(), error))
            }
            None => Ok(FoundImage::NoImage),
        },
        Err(error) => match error.as_service_error() {
            Some(DescribeImagesError::ImageNotFoundException(_)) => Ok(FoundImage::NoImage),
            Some(DescribeImagesError::RepositoryNotFoundException(_)) => Ok(FoundImage::NoRepository),
            _ => Err(failed(operation(), error)),
        },
    }
}

/// Lists the tagged images of a repository that are not archived. Returns `None` if the repository does not exist.
///
/// # Errors
/// One of the pages could not be read.
pub async fn images(client: &Client, repository: &str) -> Result<Option<Vec<Image>>, ServiceError> {
    let operation = || format!("ECR's DescribeImages for {repository}");
    // ECR omits archived images unless they are asked for.
    let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
    let request = client.describe_images().repository_name(repository).filter(filter).max_results(PAGE);
    let mut pages = request.into_paginator().send();
    let mut images = Vec::new();
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => {
                for detail in page.image_details.unwrap_or_default() {
                    images.push(read(detail).map_err(|error| ServiceError::unexpected(operation(), error))?);
                }
            }
            Err(error) => {
                return match error.as_service_error() {
                    Some(DescribeImagesError::RepositoryNotFoundException(_)) => Ok(None),
                    _ => Err(failed(operation(), error)),
                };
            }
        }
    }
    Ok(Some(images))
}

/// Lists all repositories.
///
/// # Errors
/// One of the pages could not be read.
pub async fn repositories(client: &Client) -> Result<Vec<ImageRepository>, ServiceError> {
    let mut pages = client.describe_repositories().max_results(PAGE).into_paginator().send();
    let mut repositories = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| failed("ECR's DescribeRepositories".to_owned(), error))?;
        let named = |one: Repository| {
            let created = one.created_at.and_then(|at| u64::try_from(at.to_millis().ok()?).ok());
            // A repository without a time counts as new.
            Some(ImageRepository { name: one.repository_name?, created: created.unwrap_or(u64::MAX) })
        };
        repositories.extend(page.repositories.unwrap_or_default().into_iter().filter_map(named));
    }
    Ok(repositories)
}

/// Lists the prefixes with which the names of repositories begin that are caches of other registries.
///
/// # Errors
/// One of the pages could not be read.
pub async fn cache_prefixes(client: &Client) -> Result<BTreeSet<String>, ServiceError> {
    let mut pages = client.describe_pull_through_cache_rules().max_results(PAGE).into_paginator().send();
    let mut prefixes = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| failed("ECR's DescribePullThroughCacheRules".to_owned(), error))?;
        let rules = page.pull_through_cache_rules.unwrap_or_default();
        prefixes.extend(rules.into_iter().filter_map(|rule| rule.ecr_repository_prefix));
    }
    Ok(prefixes)
}

/// An image, as the functions use it. The error says what is missing.
fn read(detail: ImageDetail) -> Result<Image, sekisho_domain::account::Malformed> {
    Ok(Image {
        digest: Revision::try_from(detail.image_digest.unwrap_or_default())?,
        tags: detail.image_tags.unwrap_or_default(),
        pushed: detail.image_pushed_at.and_then(|at| at.to_millis().ok()).unwrap_or_default(),
        manifest: detail.image_manifest_media_type,
        artifact: detail.artifact_media_type,
        has_subject: detail.subject_manifest_digest.is_some(),
        is_archived: detail.image_status.is_some_and(|status| status != ImageStatus::Active),
    })
}

/// An error of a call. A retry may succeed after every refusal whose code is not in [`FINAL`].
fn failed<E>(operation: String, error: SdkError<E, HttpResponse>) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    ServiceError::new(operation, error).refused_only_for(&FINAL)
}
