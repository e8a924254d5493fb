//! A repository account in memory, for tests and measurements. The account is a fake of [`World`].

mod ledger;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::{RefKind, Revision, SourceRef};
use sekisho_domain::notice::Notice;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

pub use self::ledger::FakeLedger;
use crate::image::{Image, ImageRepository};
use crate::world::{Differences, Entry, EntryResult, FoundImage, Head, ImageId, World};

/// The time at which a new account's clock starts. From then on, the clock follows tokio's clock, which a test may
/// pause.
pub const START: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

/// A function that returns the result of one entry of a PutEvents call.
type Bus = Box<dyn FnMut(&Entry) -> EntryResult>;
/// An action of another invocation or a person during a call.
type Interruption = Box<dyn FnOnce(&FakeAccount)>;

/// A repository account in memory. A test sets the answers of the account's services, and the account records every
/// call.
pub struct FakeAccount {
    /// The ledger.
    pub ledger: FakeLedger,
    began: Instant,
    /// The head of each branch; `None` if the repository does not exist.
    pub branches: RefCell<Option<BTreeMap<String, Revision>>>,
    /// The commit of each tag.
    pub tags: RefCell<BTreeMap<String, Revision>>,
    /// The branches for which CodeCommit throttles every read of the head.
    pub throttled_branches: RefCell<Vec<String>>,
    /// The repositories for which CodeCommit throttles the list of branches.
    pub throttled_repositories: RefCell<Vec<String>>,
    /// Whether CodeCommit fails to compare commits, for a passing reason.
    pub differences_fail: Cell<bool>,
    /// Whether CodeCommit denies every read of a head.
    pub heads_denied: Cell<bool>,
    /// The names of all repositories. If the value is `None`, CodeCommit throttles the call that lists the
    /// repositories.
    pub repositories: RefCell<Option<Vec<String>>>,
    /// When the CodeCommit repositories were created, in epoch milliseconds.
    pub repositories_created: Cell<u64>,
    /// The images of each ECR repository.
    pub images: RefCell<BTreeMap<String, Vec<Image>>>,
    /// The prefixes of the names of ECR repositories that are caches of other registries.
    pub cache_prefixes: RefCell<BTreeSet<String>>,
    /// When the image repositories were created, in epoch milliseconds.
    pub image_repositories_created: Cell<u64>,
    /// How every call to ECR fails; `None` if it succeeds.
    pub ecr_fails: Cell<Option<Kind>>,
    /// The pages of changed paths between any two commits; `None` if one of the commits is gone.
    pub changed_paths: RefCell<Option<Vec<Vec<String>>>>,
    /// The function that answers for all buses. The buses of a new account accept every entry.
    pub bus: RefCell<Bus>,
    /// The entries that the buses accepted.
    pub accepted: RefCell<Vec<Entry>>,
    /// The published notices.
    pub notices: RefCell<Vec<Notice>>,
    /// Whether SNS throttles every call.
    pub topic_is_down: Cell<bool>,
    /// The duration of each read of CodeCommit.
    pub read_time: Cell<Duration>,
    /// The duration of each call to EventBridge and SNS.
    pub send_time: Cell<Duration>,
    /// The interruptions of the next reads of a head, one for each read. An interruption happens after CodeCommit has
    /// read the head and before CodeCommit answers.
    pub interruptions: RefCell<VecDeque<Interruption>>,
    /// The calls to CodeCommit, EventBridge and SNS so far.
    pub calls: RefCell<Vec<String>>,
    in_flight: Cell<usize>,
    max_in_flight: Cell<usize>,
}

impl Default for FakeAccount {
    fn default() -> Self {
        Self {
            ledger: FakeLedger::default(),
            began: Instant::now(),
            branches: RefCell::new(Some(BTreeMap::new())),
            tags: RefCell::default(),
            throttled_branches: RefCell::default(),
            throttled_repositories: RefCell::default(),
            differences_fail: Cell::new(false),
            heads_denied: Cell::new(false),
            repositories: RefCell::new(Some(Vec::new())),
            repositories_created: Cell::new(0),
            images: RefCell::default(),
            cache_prefixes: RefCell::default(),
            image_repositories_created: Cell::new(0),
            ecr_fails: Cell::new(None),
            changed_paths: RefCell::new(Some(vec![Vec::new()])),
            bus: RefCell::new(Box::new(|_| EntryResult::Accepted)),
            accepted: RefCell::default(),
            notices: RefCell::default(),
            topic_is_down: Cell::new(false),
            read_time: Cell::new(Duration::ZERO),
            send_time: Cell::new(Duration::ZERO),
            interruptions: RefCell::default(),
            calls: RefCell::default(),
            in_flight: Cell::new(0),
            max_in_flight: Cell::new(0),
        }
    }
}

impl fmt::Debug for FakeAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeAccount").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl FakeAccount {
    /// The largest number of calls to EventBridge and SNS that were in flight at once.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight.get()
    }

    async fn read(&self, call: String) {
        self.calls.borrow_mut().push(call);
        tokio::time::sleep(self.read_time.get()).await;
    }

    async fn read_ecr(&self, call: String) -> Result<(), ServiceError> {
        self.read(call).await;
        self.ecr_fails.get().map_or(Ok(()), |kind| Err(failed("a call to ECR", kind)))
    }

    async fn send(&self, call: String) {
        self.calls.borrow_mut().push(call);
        self.in_flight.set(self.in_flight.get() + 1);
        self.max_in_flight.set(self.max_in_flight.get().max(self.in_flight.get()));
        tokio::time::sleep(self.send_time.get()).await;
        self.in_flight.set(self.in_flight.get() - 1);
    }
}

fn failed(operation: &'static str, kind: Kind) -> ServiceError {
    ServiceError::unexpected(operation, "the test makes this call fail").with_kind(kind)
}

impl World for FakeAccount {
    type Ledger = FakeLedger;

    fn ledger(&self) -> &FakeLedger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        START + self.began.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn head(&self, repository: &str, source_ref: &SourceRef) -> Result<Head, ServiceError> {
        let name = source_ref.name();
        match source_ref.kind() {
            RefKind::Branch => self.read(format!("GetBranch {repository} {name}")).await,
            RefKind::Tag | RefKind::Image => self.read(format!("GetFolder {repository} {source_ref}")).await,
        }
        if self.throttled_branches.borrow().iter().any(|throttled| throttled == name) {
            return Err(failed("CodeCommit's GetBranch", Kind::Throttled));
        }
        if self.heads_denied.get() {
            return Err(failed("CodeCommit's GetBranch", Kind::Refused));
        }
        let head = match &*self.branches.borrow() {
            None => Head::NoRepository,
            Some(branches) => {
                let tags = self.tags.borrow();
                let heads = if source_ref.kind() == RefKind::Branch { branches } else { &*tags };
                heads.get(name).cloned().map_or(Head::NoRef, Head::At)
            }
        };
        let interruption = self.interruptions.borrow_mut().pop_front();
        if let Some(interrupt) = interruption {
            interrupt(self);
        }
        Ok(head)
    }

    async fn differences(
        &self,
        repository: &str,
        before: &Revision,
        after: &Revision,
        page: Option<String>,
    ) -> Result<Option<Differences>, ServiceError> {
        self.read(format!("GetDifferences {repository} {before}..{after}")).await;
        if self.differences_fail.get() {
            return Err(failed("CodeCommit's GetDifferences", Kind::Unavailable));
        }
        let index: usize = page.and_then(|page| page.parse().ok()).unwrap_or(0);
        let changed = self.changed_paths.borrow();
        Ok(changed.as_ref().and_then(|pages| {
            let paths = pages.get(index)?.iter().cloned().collect();
            Some(Differences { paths, next: (index + 1 < pages.len()).then(|| (index + 1).to_string()) })
        }))
    }

    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, ServiceError> {
        self.read(format!("ListBranches {repository}")).await;
        if self.throttled_repositories.borrow().iter().any(|throttled| throttled == repository) {
            return Err(failed("CodeCommit's ListBranches", Kind::Throttled));
        }
        Ok(self.branches.borrow().as_ref().map(|branches| branches.keys().cloned().collect()))
    }

    async fn repository_created(&self, repository: &str) -> Result<Option<u64>, ServiceError> {
        self.read(format!("GetRepository {repository}")).await;
        Ok(self.branches.borrow().as_ref().map(|_| self.repositories_created.get()))
    }

    async fn repositories(&self) -> Result<Vec<String>, ServiceError> {
        self.read("ListRepositories".to_owned()).await;
        self.repositories.borrow().clone().ok_or_else(|| failed("CodeCommit's ListRepositories", Kind::Throttled))
    }

    async fn image(&self, repository: &str, id: &ImageId<'_>) -> Result<FoundImage, ServiceError> {
        self.read_ecr(format!("DescribeImages {repository} {id}")).await?;
        let images = self.images.borrow();
        let Some(images) = images.get(repository) else { return Ok(FoundImage::NoRepository) };
        let is_meant = |image: &&Image| match id {
            ImageId::Tag(tag) => image.tags.iter().any(|one| one == tag),
            ImageId::Digest(digest) => image.digest == **digest,
        };
        Ok(images.iter().find(is_meant).cloned().map_or(FoundImage::NoImage, FoundImage::At))
    }

    async fn images(&self, repository: &str) -> Result<Option<Vec<Image>>, ServiceError> {
        self.read_ecr(format!("DescribeImages {repository}")).await?;
        let tagged = |image: &&Image| !image.tags.is_empty() && !image.is_archived;
        Ok(self.images.borrow().get(repository).map(|images| images.iter().filter(tagged).cloned().collect()))
    }

    async fn image_repositories(&self) -> Result<Vec<ImageRepository>, ServiceError> {
        self.read_ecr("DescribeRepositories".to_owned()).await?;
        let created = self.image_repositories_created.get();
        Ok(self.images.borrow().keys().map(|name| ImageRepository { name: name.clone(), created }).collect())
    }

    async fn cache_prefixes(&self) -> Result<BTreeSet<String>, ServiceError> {
        self.read_ecr("DescribePullThroughCacheRules".to_owned()).await?;
        Ok(self.cache_prefixes.borrow().clone())
    }

    async fn put_events(&self, region: &Region, entries: &[Entry]) -> Vec<EntryResult> {
        self.send(format!("PutEvents {region} {}", entries.len())).await;
        let put = |entry: &Entry| {
            let result = (self.bus.borrow_mut())(entry);
            if result == EntryResult::Accepted {
                self.accepted.borrow_mut().push(entry.clone());
            }
            result
        };
        entries.iter().map(put).collect()
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.send("Publish".to_owned()).await;
        if self.topic_is_down.get() {
            return Err(failed("sns:Publish", Kind::Throttled));
        }
        self.notices.borrow_mut().push(notice.clone());
        Ok(())
    }
}
