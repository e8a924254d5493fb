//! Copies an object in parts. The claim on the repair has the upload, so that a later invocation continues it.

use futures_util::{StreamExt, stream};
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::aws::s3::WriteResult;
use crate::aws::s3::copy::{CompletedPart, SelfCopy};
use crate::checker::claim::Claim;
use crate::claim::UnfinishedUpload;
use crate::error::CheckError;
use crate::repair::part_ranges;

/// How many parts of one object are copied at the same time.
const CONCURRENT_PARTS: usize = 8;

/// A copy in parts of one object.
pub(crate) struct Upload<'a, L> {
    pub(crate) copy: SelfCopy<'a>,
    /// The size of a part in bytes.
    pub(crate) part: u64,
    pub(crate) ledger: &'a L,
    pub(crate) clock: fn() -> OffsetDateTime,
}

impl<L: Store> Upload<'_, L> {
    /// Whether this copy can continue the claim's upload.
    pub(crate) fn continues(&self, claim: &Claim) -> bool {
        claim.upload().is_some_and(|upload| *upload == self.row(&upload.id))
    }

    /// Begins or continues the upload, and completes it. After a temporary error, the claim still has the upload.
    pub(crate) async fn run(&self, claim: &mut Claim) -> Result<WriteResult, CheckError> {
        let (id, parts) = match self.unfinished(claim).await? {
            Some(unfinished) => unfinished,
            None => match self.copy.begin_upload().await {
                Ok(id) => {
                    claim.begin_upload(self.ledger, self.row(&id), (self.clock)()).await?;
                    (id, Vec::new())
                }
                Err(error) => return Ok(WriteResult::of_error(error)?),
            },
        };
        match self.finish(&id, parts, claim).await {
            Ok(version) => {
                claim.end_upload();
                Ok(WriteResult::Written(version))
            }
            Err(CheckError::Service(error)) if error.is_refused() => {
                self.copy.abort_upload(&id).await;
                claim.end_upload();
                Ok(WriteResult::of_error(error)?)
            }
            Err(error) => Err(error),
        }
    }

    /// The id and the parts of the claim's upload, if this copy can continue it. Another upload is aborted.
    async fn unfinished(&self, claim: &mut Claim) -> Result<Option<(String, Vec<CompletedPart>)>, CheckError> {
        let Some(id) = claim.upload().map(|upload| upload.id.clone()) else { return Ok(None) };
        if self.continues(claim) {
            if let Some(parts) = self.copy.parts(&id).await? {
                return Ok(Some((id, parts)));
            }
        } else {
            self.copy.abort_upload(&id).await;
        }
        claim.end_upload();
        Ok(None)
    }

    /// Copies the missing parts, and completes the upload. Returns the new version.
    async fn finish(
        &self,
        id: &str,
        mut parts: Vec<CompletedPart>,
        claim: &mut Claim,
    ) -> Result<Option<String>, CheckError> {
        let ranges = (1..).zip(part_ranges(self.copy.head.facts.size, self.part));
        let missing: Vec<_> =
            ranges.filter(|(number, _)| !parts.iter().any(|part| part.part_number == Some(*number))).collect();
        let copies = missing.into_iter().map(|(number, (first, last))| self.copy.copy_part(id, number, first, last));
        let mut copies = stream::iter(copies).buffered(CONCURRENT_PARTS);
        while let Some(part) = copies.next().await {
            parts.push(part?);
            claim.keep(self.ledger, (self.clock)()).await?;
        }
        parts.sort_by_key(|part| part.part_number);
        Ok(self.copy.complete_upload(id, parts).await?)
    }

    fn row(&self, id: &str) -> UnfinishedUpload {
        UnfinishedUpload {
            id: id.to_owned(),
            etag: self.copy.head.facts.etag.clone(),
            key: self.copy.key.to_string(),
            part: self.part,
        }
    }
}
