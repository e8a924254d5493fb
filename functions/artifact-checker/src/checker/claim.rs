//! Takes, keeps and releases the claim on an object's repair in the ledger.

use std::time::Duration;

use sekisho_ledger::{Error, Key, Store};
use time::OffsetDateTime;

use crate::claim::{ClaimRow, RepairWrite, UnfinishedUpload};
use crate::object::ObjectId;

/// The right of this invocation to repair one object.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Key,
    row: ClaimRow,
    revision: Option<u64>,
    /// When the claim was last extended.
    extended: OffsetDateTime,
}

/// The interval between extensions of a claim during a copy in parts.
const EXTENSION: Duration = Duration::from_mins(1);

/// The result of taking a claim.
#[derive(Debug)]
pub(crate) enum Take {
    Taken(Claim),
    /// Another invocation has the claim.
    HeldByOther,
}

/// Takes the claim on an object's repair. `holder` is the id of this request, or of the sweep that this request
/// continues.
pub(crate) async fn take(
    ledger: &impl Store,
    object: &ObjectId,
    holder: &str,
    now: OffsetDateTime,
) -> Result<Take, Error> {
    let key = ClaimRow::key(object);
    let row = ledger.read::<ClaimRow>(&key).await?;
    let revision = row.as_ref().map(|row| row.revision);
    let row = row.map(|row| row.state).unwrap_or_default();
    if row.is_held_by_other(holder, now) {
        return Ok(Take::HeldByOther);
    }
    let mut claim = Claim { key, row: row.claimed(holder, now), revision, extended: now };
    match claim.save(ledger).await {
        Ok(()) => Ok(Take::Taken(claim)),
        Err(Error::Changed(_)) => Ok(Take::HeldByOther),
        Err(error) => Err(error),
    }
}

impl Claim {
    /// Counts a write before it is made. Returns `false` if the object was repaired too often.
    pub(crate) async fn count(
        &mut self,
        ledger: &impl Store,
        write: RepairWrite<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Error> {
        let is_allowed = self.row.count(write, now);
        if is_allowed {
            self.save(ledger).await?;
            self.extended = now;
        }
        Ok(is_allowed)
    }

    /// The upload that a copy has begun under this claim or an earlier one.
    pub(crate) fn upload(&self) -> Option<&UnfinishedUpload> {
        self.row.upload()
    }

    /// Remembers an upload before its parts are copied.
    pub(crate) async fn begin_upload(
        &mut self,
        ledger: &impl Store,
        upload: UnfinishedUpload,
        now: OffsetDateTime,
    ) -> Result<(), Error> {
        self.row.set_upload(Some(upload));
        self.extend(ledger, now).await
    }

    /// Forgets the upload, which is completed or aborted. The release of the claim saves this.
    pub(crate) fn end_upload(&mut self) {
        self.row.set_upload(None);
    }

    /// Extends the claim if the last extension is some time ago.
    pub(crate) async fn keep(&mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        if now - self.extended < EXTENSION { Ok(()) } else { self.extend(ledger, now).await }
    }

    async fn extend(&mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        self.row.extend(now);
        self.extended = now;
        self.save(ledger).await
    }

    /// Subtracts a write that S3 refused or did not answer from the count.
    pub(crate) fn discount(&mut self, write: RepairWrite<'_>) {
        self.row.discount(write);
    }

    pub(crate) async fn release(mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        self.row.release(now);
        match self.save(ledger).await {
            // If another invocation has taken the claim over, there is nothing to release.
            Ok(()) | Err(Error::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn save(&mut self, ledger: &impl Store) -> Result<(), Error> {
        self.revision = Some(ledger.write(&self.key, &self.row, self.revision, self.row.holder()).await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_ledger::Memory;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);

    fn object() -> ObjectId {
        ObjectId { bucket: "b".into(), key: "k".into(), version: None }
    }

    async fn taken(ledger: &Memory, holder: &str, now: OffsetDateTime) -> Claim {
        match take(ledger, &object(), holder, now).await.unwrap() {
            Take::Taken(claim) => claim,
            Take::HeldByOther => panic!("another invocation has the claim"),
        }
    }

    #[tokio::test]
    async fn one_invocation_at_a_time_makes_up_to_three_repairs_in_a_series() {
        let ledger = Memory::default();
        let mut now = NOW;
        let mut first = taken(&ledger, "a", now).await;
        assert!(first.count(&ledger, RepairWrite::Copy, now).await.unwrap());
        assert!(matches!(take(&ledger, &object(), "b", now).await.unwrap(), Take::HeldByOther));
        first.release(&ledger, now).await.unwrap();
        for (holder, expected) in [("b", true), ("c", true), ("d", false)] {
            now += Duration::from_mins(9);
            let mut claim = taken(&ledger, holder, now).await;
            assert_eq!(claim.count(&ledger, RepairWrite::Copy, now).await.unwrap(), expected);
            claim.release(&ledger, now).await.unwrap();
        }
        now += Duration::from_mins(2);
        let mut later = taken(&ledger, "e", now).await;
        for expected in [true, true, true, false] {
            assert_eq!(later.count(&ledger, RepairWrite::Copy, now).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn updates_are_counted_by_version_and_refusals_are_not_counted() {
        let ledger = Memory::default();
        let mut claim = taken(&ledger, "a", NOW).await;
        for version in ["v1", "v2", "v3", "v4", "v5"] {
            assert!(claim.count(&ledger, RepairWrite::Update(version), NOW).await.unwrap());
        }
        for expected in [true, true, false] {
            assert_eq!(claim.count(&ledger, RepairWrite::Update("v5"), NOW).await.unwrap(), expected);
        }
        claim.discount(RepairWrite::Update("v5"));
        assert!(claim.count(&ledger, RepairWrite::Update("v5"), NOW).await.unwrap());
        assert!(claim.count(&ledger, RepairWrite::Copy, NOW).await.unwrap());
    }

    #[tokio::test]
    async fn a_retry_has_the_claim_of_its_dead_attempt_and_others_wait_for_its_end() {
        let ledger = Memory::default();
        let mut dead = taken(&ledger, "a", NOW).await;
        taken(&ledger, "a", NOW + Duration::from_mins(1)).await;
        assert!(matches!(dead.count(&ledger, RepairWrite::Copy, NOW).await, Err(Error::Changed(_))));
        taken(&ledger, "b", NOW + Duration::from_secs(361)).await;
    }
}
