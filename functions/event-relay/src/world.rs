//! The port to everything outside the function. [`crate::aws::Aws`] is the real implementation.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::{Revision, SourceRef};
use sekisho_domain::notice::Notice;
use sekisho_lambda::ServiceError;
pub use sekisho_lambda::eventbridge::{Entry, EntryResult};
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::image::{Image, ImageRepository};

/// The answer of CodeCommit or ECR about the head of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// The reference points at this commit or image.
    At(Revision),
    /// The tag points at something for which no pipeline starts, such as a signature, for this reason.
    Unroutable(String),
    /// The repository has no such reference.
    NoRef,
    /// The account has no such repository.
    NoRepository,
}

/// The tag or the digest of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageId<'i> {
    /// A tag, without `refs/images/`.
    Tag(&'i str),
    /// A digest.
    Digest(&'i Revision),
}

impl std::fmt::Display for ImageId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// ECR's answer about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundImage {
    /// The image.
    At(Image),
    /// The repository has no such image, or the image is archived.
    NoImage,
    /// The account has no such repository.
    NoRepository,
}

/// A page of the paths that differ between two commits. For a moved file, the page contains the old path and the new
/// path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The paths of this page.
    pub paths: BTreeSet<String>,
    /// The token that requests the next page; `None` on the last page.
    pub next: Option<String>,
}

/// The ledger, the clock and the services that the function calls. Futures need not be `Send`, because the runtime has
/// one thread.
#[expect(async_fn_in_trait, reason = "the runtime has one thread")]
pub trait World {
    /// The type of the ledger.
    type Ledger: Store;
    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;
    /// The current time.
    fn now(&self) -> OffsetDateTime;
    /// Waits for `time`.
    async fn sleep(&self, time: Duration);
    /// Reads the head of a branch or tag. The head of an annotated tag is the commit that the tag leads to.
    async fn head(&self, repository: &str, source_ref: &SourceRef) -> Result<Head, ServiceError>;
    /// Reads one page of the paths that differ between two commits. Returns `None` if the paths cannot be known: one of
    /// the commits does not exist any more, or CodeCommit cannot compare the commits.
    async fn differences(
        &self,
        repository: &str,
        before: &Revision,
        after: &Revision,
        page: Option<String>,
    ) -> Result<Option<Differences>, ServiceError>;
    /// Lists the names of all branches of a CodeCommit repository. Returns `None` if the repository does not exist.
    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, ServiceError>;
    /// When a CodeCommit repository was created, in epoch milliseconds; `None` if it does not exist.
    async fn repository_created(&self, repository: &str) -> Result<Option<u64>, ServiceError>;
    /// Lists the names of all CodeCommit repositories.
    async fn repositories(&self) -> Result<Vec<String>, ServiceError>;
    /// Reads an image of an ECR repository.
    async fn image(&self, repository: &str, id: &ImageId<'_>) -> Result<FoundImage, ServiceError>;
    /// Lists the tagged images of an ECR repository. Returns `None` if the repository does not exist.
    async fn images(&self, repository: &str) -> Result<Option<Vec<Image>>, ServiceError>;
    /// Lists all ECR repositories.
    async fn image_repositories(&self) -> Result<Vec<ImageRepository>, ServiceError>;
    /// Lists the prefixes of the names of ECR repositories that are caches of other registries.
    async fn cache_prefixes(&self) -> Result<BTreeSet<String>, ServiceError>;
    /// Makes one PutEvents call with up to 10 entries for buses of one region. Returns one result for each entry, in
    /// the same order.
    async fn put_events(&self, region: &Region, entries: &[Entry]) -> Vec<EntryResult>;
    /// Publishes a notice to the people of this account.
    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError>;
}
