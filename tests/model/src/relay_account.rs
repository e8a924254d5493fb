//! The repository account, as event-relay sees it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use event_relay::image::{Image, ImageRepository};
use event_relay::world::{Differences, Entry, EntryResult, FoundImage, Head, ImageId, World};
use sekisho_domain::account::Region;
use sekisho_domain::change::{RefKind, Revision, SourceRef};
use sekisho_domain::notice::Notice;
use sekisho_lambda::ServiceError;
use time::OffsetDateTime;

use crate::cloud::{Cloud, PLACES, REPOSITORY_ACCOUNT, give_way};
use crate::lambda::Function;
use crate::ledger::Ledger;
use crate::repository::{self, NAMES, Repository, SHOP};

/// The outside world of event-relay.
#[derive(Debug, Clone)]
pub(crate) struct RelayAccount {
    cloud: Rc<Cloud>,
    ledger: Ledger,
}

impl RelayAccount {
    pub(crate) fn new(cloud: &Rc<Cloud>) -> Self {
        Self { cloud: cloud.clone(), ledger: Ledger { cloud: cloud.clone(), function: Function::Relay } }
    }

    fn repository(&self, name: &str) -> &Repository {
        &self.cloud.repositories[repository::index(name)]
    }
}

impl World for RelayAccount {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        self.cloud.clock.seen()
    }

    async fn sleep(&self, time: Duration) {
        self.cloud.clock.sleep(time).await;
    }

    async fn head(&self, repository: &str, source_ref: &SourceRef) -> Result<Head, ServiceError> {
        self.cloud.begin("GetBranch or GetFolder").await?;
        let head = self.repository(repository).head(source_ref);
        // The branch or tag may move before the answer arrives.
        give_way().await;
        Ok(head.map_or(Head::NoRef, Head::At))
    }

    async fn differences(
        &self,
        repository: &str,
        before: &Revision,
        after: &Revision,
        page: Option<String>,
    ) -> Result<Option<Differences>, ServiceError> {
        let repository = self.repository(repository);
        let without_paths = &repository.without_paths;
        without_paths.set(without_paths.get() + 1);
        let begun = self.cloud.begin("GetDifferences").await;
        // After a force-push, one of the commits may not exist any more.
        if begun.is_ok() && self.cloud.chance.fails(2) {
            return Ok(None);
        }
        without_paths.set(without_paths.get() - 1);
        begun?;
        let Some(changed) = repository.differences(before, after) else { return Ok(None) };
        // Each page has one path.
        let index: usize = page.map_or(0, |page| page.parse().unwrap_or(0));
        let next = (index + 1 < changed.len()).then(|| (index + 1).to_string());
        let paths: BTreeSet<String> = changed.iter().skip(index).take(1).map(ToString::to_string).collect();
        Ok(Some(Differences { paths, next }))
    }

    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, ServiceError> {
        self.cloud.begin("ListBranches").await?;
        Ok(Some(self.repository(repository).names(RefKind::Branch)))
    }

    async fn repository_created(&self, _repository: &str) -> Result<Option<u64>, ServiceError> {
        self.cloud.begin("GetRepository").await?;
        // In the model, every repository is older than the configuration.
        Ok(Some(0))
    }

    async fn repositories(&self) -> Result<Vec<String>, ServiceError> {
        self.cloud.begin("ListRepositories").await?;
        Ok(NAMES.map(ToOwned::to_owned).to_vec())
    }

    async fn image(&self, repository: &str, id: &ImageId<'_>) -> Result<FoundImage, ServiceError> {
        let begun = self.cloud.begin("DescribeImages").await;
        if let (Err(_), ImageId::Digest(digest)) = (&begun, id) {
            self.cloud.registry.note_unanswered(digest, self.cloud.clock.now.get());
        }
        begun?;
        if repository != NAMES[SHOP] {
            return Ok(FoundImage::NoRepository);
        }
        let registry = &self.cloud.registry;
        let image = match id {
            ImageId::Tag(tag) => registry.at(tag).and_then(|digest| registry.describe(&digest)),
            ImageId::Digest(digest) => registry.describe(digest),
        };
        // The tag may move, and the image may be deleted, before the answer arrives.
        give_way().await;
        Ok(image.map_or(FoundImage::NoImage, FoundImage::At))
    }

    async fn images(&self, repository: &str) -> Result<Option<Vec<Image>>, ServiceError> {
        self.cloud.begin("DescribeImages").await?;
        let images = (repository == NAMES[SHOP]).then(|| self.cloud.registry.describe_tagged());
        give_way().await;
        Ok(images)
    }

    async fn image_repositories(&self) -> Result<Vec<ImageRepository>, ServiceError> {
        self.cloud.begin("DescribeRepositories").await?;
        let named = |name: &str| ImageRepository { name: name.to_owned(), created: 0 };
        Ok([NAMES[SHOP], "shared/cache/shop"].map(named).into())
    }

    async fn cache_prefixes(&self) -> Result<BTreeSet<String>, ServiceError> {
        self.cloud.begin("DescribePullThroughCacheRules").await?;
        Ok(BTreeSet::from(["shared/cache".to_owned()]))
    }

    async fn put_events(&self, _region: &Region, entries: &[Entry]) -> Vec<EntryResult> {
        give_way().await;
        let put = |entry: &Entry| {
            let place = PLACES.iter().position(|(account, region)| {
                entry.bus == format!("arn:aws:events:{region}:{account}:event-bus/sekisho")
            });
            match place {
                Some(place) => self.cloud.places[place].bus.put(REPOSITORY_ACCOUNT, entry, &self.cloud.chance),
                None => EntryResult::Refused("no such bus".to_owned()),
            }
        };
        let results = entries.iter().map(put).collect();
        give_way().await;
        results
    }

    async fn publish(&self, _notice: &Notice) -> Result<(), ServiceError> {
        self.cloud.begin("Publish").await
    }
}
