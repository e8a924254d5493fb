//! Puts the manifests together from the parts that the sweep has written.

use futures_util::{StreamExt, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use tracing::warn;

use crate::aws::element;
use crate::aws::s3::{S3, list};
use crate::batch::{Collecting, Manifest, Step};
use crate::checker::batch::taken::{LARGEST, RESERVE, TakenBatch};
use crate::error::Error;
use crate::object::ListPosition;
use crate::run::Run;

/// How many parts are read at the same time.
const READS: usize = 16;
/// S3 refuses a smaller part of an upload, except for the last one.
const SMALLEST_UPLOAD: usize = 5 * 1024 * 1024;
/// S3 Batch Operations cannot read a CSV manifest under a KMS key.
const ENCRYPTION: (&str, &str) = ("x-amz-server-side-encryption", "AES256");

/// Writes the manifests, as far as the time allows. Returns whether they are written.
pub(super) async fn collect<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<bool, Error> {
    let s3 = run.s3();
    while let Step::Collecting(state) = &taken.row.step {
        let is_second = state.is_second;
        let key = format!("{}manifest-{}.csv", taken.row.folder, if is_second { 2 } else { 1 });
        let path = format!("/{}/{key}", run.settings.bucket);
        let mut writer = Writer { run, path, state: state.clone(), buffer: String::new() };
        match writer.write(&s3, taken).await {
            Ok(Written::Later) => return Ok(false),
            Ok(Written::Nothing) => {}
            Ok(Written::Manifest(etag, tasks)) => {
                taken.row.manifests.push(Manifest::new(!is_second, key, etag, tasks));
            }
            // An invocation that died has completed the upload, or somebody has aborted it.
            Err(Error::Service(error)) if error.code() == Some("NoSuchUpload") => {
                warn!(error = chain(&error), "the manifest is written again from its beginning");
                taken.row.step = Step::Collecting(Collecting { is_second, ..Collecting::default() });
                taken.save(run).await?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        taken.row.step = match (is_second, taken.row.manifests.is_empty()) {
            (false, _) => Step::Collecting(Collecting { is_second: true, ..Collecting::default() }),
            (true, false) => Step::Waiting,
            (true, true) => Step::Ended,
        };
        taken.save(run).await?;
    }
    Ok(true)
}

/// How far a manifest was written.
enum Written {
    /// Another invocation continues.
    Later,
    /// There are no objects, so there is no manifest.
    Nothing,
    /// The entity tag of the manifest, and the number of objects.
    Manifest(String, u64),
}

/// Writes one manifest.
struct Writer<'a, L> {
    run: &'a Run<'a, L>,
    path: String,
    state: Collecting,
    /// What is read and not written yet.
    buffer: String,
}

impl<L: Store> Writer<'_, L> {
    async fn write(&mut self, s3: &S3, taken: &mut TakenBatch) -> Result<Written, Error> {
        if !self.read_parts(s3, taken).await? {
            return Ok(Written::Later);
        }
        match self.state.tasks {
            0 => Ok(Written::Nothing),
            tasks => Ok(Written::Manifest(self.finish().await?, tasks)),
        }
    }

    /// Reads the parts. Whenever there is enough for a part of the upload, uploads it and saves the row. Returns whether
    /// all parts are read.
    async fn read_parts(&mut self, s3: &S3, taken: &mut TakenBatch) -> Result<bool, Error> {
        let folder = taken.row.parts(!self.state.is_second);
        let bucket = &self.run.settings.bucket;
        let mut after = self.state.after.clone().unwrap_or_else(|| folder.clone());
        loop {
            let position = ListPosition { key: after, version: None };
            let page = list::page(s3, bucket, false, Some(&position)).await?;
            let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
            let is_last = page.end.is_none() || keys.last().is_none_or(|key| !key.starts_with(&folder));
            let parts = keys.into_iter().filter(|key| key.starts_with(&folder));
            let mut texts = stream::iter(parts.map(|key| read(s3, bucket, key))).buffered(READS);
            while let Some(part) = texts.next().await {
                let (key, text) = part?;
                self.state.tasks += u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
                self.buffer.push_str(&text);
                self.state.after = Some(key);
                let is_late = self.run.time_left() < RESERVE;
                let enough = if is_late { SMALLEST_UPLOAD } else { usize::MAX };
                if self.buffer.len() >= enough.min(self.run.settings.manifest_part) {
                    self.upload_part().await?;
                    taken.row.step = Step::Collecting(self.state.clone());
                    taken.save(self.run).await?;
                }
                // What is read and not saved is read again.
                if is_late {
                    return Ok(false);
                }
            }
            match page.end {
                Some(end) if !is_last => after = end.key,
                _ => return Ok(true),
            }
        }
    }

    /// Uploads what is read as the next part of the manifest. A repeated attempt replaces the part.
    async fn upload_part(&mut self) -> Result<(), ServiceError> {
        let (id, mut etags) = match self.state.upload.take() {
            Some(upload) => upload,
            None => (self.begin().await?, Vec::new()),
        };
        let path = format!("{}?partNumber={}&uploadId={}", self.path, etags.len() + 1, encoded(&id));
        let text = std::mem::take(&mut self.buffer);
        let answer = self.run.clients.reports.put(&path, &[self.owner()], text).await?;
        etags.push(etag(answer.header("etag"))?);
        self.state.upload = Some((id, etags));
        Ok(())
    }

    async fn begin(&self) -> Result<String, ServiceError> {
        let path = format!("{}?uploads=", self.path);
        let headers = [("content-type", "text/csv"), ENCRYPTION, self.owner()];
        let answer = self.run.clients.reports.post(&path, &headers, String::new()).await?;
        element(&answer.body, "UploadId").ok_or_else(|| unexpected("the answer has no id of an upload"))
    }

    /// Writes the rest, and returns the entity tag of the manifest.
    async fn finish(&mut self) -> Result<String, ServiceError> {
        if self.state.upload.is_none() {
            let text = std::mem::take(&mut self.buffer);
            let headers = [("content-type", "text/csv"), ENCRYPTION, self.owner()];
            return etag(self.run.clients.reports.put(&self.path, &headers, text).await?.header("etag"));
        }
        if !self.buffer.is_empty() {
            self.upload_part().await?;
        }
        let Some((id, etags)) = &self.state.upload else { return Err(unexpected("the upload is lost")) };
        let path = format!("{}?uploadId={}", self.path, encoded(id));
        let part = |(n, etag): (usize, &String)| {
            format!("<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>", n + 1)
        };
        let parts: String = etags.iter().enumerate().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let headers = [("content-type", "application/xml"), self.owner()];
        let answer = self.run.clients.reports.post(&path, &headers, body).await?;
        // S3 may report an error in an answer with status 200.
        etag(element(&answer.body, "ETag").as_deref())
    }

    fn owner(&self) -> (&'static str, &str) {
        ("x-amz-expected-bucket-owner", self.run.account())
    }
}

async fn read(s3: &S3, bucket: &str, key: String) -> Result<(String, String), ServiceError> {
    let part = s3.bytes(bucket, &key, 0, LARGEST).await?;
    let text = part.map(|part| String::from_utf8_lossy(&part.bytes).into_owned());
    Ok((key, text.unwrap_or_default()))
}

/// An entity tag without its quotes.
fn etag(text: Option<&str>) -> Result<String, ServiceError> {
    let etag = text.map(|text| text.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty());
    etag.ok_or_else(|| unexpected("the answer has no entity tag"))
}

fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

fn unexpected(what: &'static str) -> ServiceError {
    ServiceError::unexpected("the upload of a manifest", what)
}
