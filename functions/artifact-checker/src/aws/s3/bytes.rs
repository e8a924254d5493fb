//! Reads and writes the function's own files: lists, manifests and reports.

use sekisho_lambda::ServiceError;

use crate::aws::s3::S3;
use crate::aws::service_error;

const READ: &str = "s3:GetObject";

/// A part of a file.
pub(crate) struct Bytes {
    pub(crate) bytes: Vec<u8>,
    /// Whether the part ends with the file.
    pub(crate) is_last: bool,
}

impl S3 {
    /// Reads up to `most` bytes of a file, from an offset. `None` if the file does not exist.
    pub(crate) async fn bytes(
        &self,
        bucket: &str,
        key: &str,
        offset: u64,
        most: u64,
    ) -> Result<Option<Bytes>, ServiceError> {
        let answer = self
            .client
            .get_object()
            .bucket(bucket)
            .key(key)
            .range(format!("bytes={offset}-{}", offset + most - 1))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| service_error(READ, error));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.status == Some(404) => return Ok(None),
            // S3 refuses a range that begins at the end of the file or behind it.
            Err(error) if error.status == Some(416) => return Ok(Some(Bytes { bytes: Vec::new(), is_last: true })),
            Err(error) => return Err(error),
        };
        let size = answer.content_range.as_deref().and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
        let bytes = answer.body.collect().await.map_err(|error| ServiceError::unexpected(READ, error))?.to_vec();
        let read = offset + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Some(Bytes { bytes, is_last: size.is_none_or(|size| read >= size) }))
    }
}
