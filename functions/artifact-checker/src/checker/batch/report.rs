//! Reads the completion reports of the jobs into the findings.

use std::collections::HashMap;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::parse_seconds;
use sekisho_lambda::failure::chain;
use sekisho_lambda::telemetry;
use sekisho_ledger::{Error as LedgerError, Store};
use tracing::warn;

use crate::aws::events;
use crate::aws::s3::S3;
use crate::batch::{BatchRow, Manifest, Reading, Step};
use crate::batch_report::{File, Listing, TaskResult, lines, result};
use crate::checker::batch::taken::{LARGEST, RESERVE, TakenBatch};
use crate::error::Error;
use crate::finding::{self, FindingEvent, FindingRow, FindingState, PARTITION, row_key};
use crate::finding_rows::FindingRows;
use crate::outcome::Outcome;
use crate::run::Run;

/// How many bytes of a report are read at once.
const CHUNK: u64 = 4 * 1024 * 1024;

/// Reads the reports, as far as the time allows. Returns whether they are read. What is missing makes the repair
/// incomplete.
pub(super) async fn read<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<bool, Error> {
    let s3 = run.s3();
    let mut findings = Findings::load(run, &taken.row).await?;
    while let Step::Reading(reading) = taken.row.step.clone() {
        let Some(manifest) = taken.row.manifests.get(reading.manifest).cloned() else { return Ok(true) };
        let mut report = Report { run, s3: &s3, findings: &mut findings, reading };
        let missing = match &manifest.job {
            // The fault of the manifest says why it has no job.
            None => None,
            Some(job) => match report.files(&taken.row, job).await? {
                Err(missing) => Some(missing),
                Ok(files) => {
                    if !report.read(taken, &files).await? {
                        return Ok(false);
                    }
                    report.missing(&manifest)
                }
            },
        };
        let reading = report.reading;
        taken.row.incomplete.extend(missing);
        taken.row.step =
            Step::Reading(Reading { manifest: reading.manifest + 1, file: 0, offset: 0, lines: 0, ..reading });
        taken.save(run).await?;
    }
    Ok(true)
}

/// The report of one job.
struct Report<'r, 'a, L> {
    run: &'a Run<'a, L>,
    s3: &'r S3,
    findings: &'r mut Findings<'a, L>,
    reading: Reading,
}

impl<L: Store> Report<'_, '_, L> {
    /// The files of the report, or why there are none.
    async fn files(&self, row: &BatchRow, job: &str) -> Result<Result<Vec<File>, String>, Error> {
        let key = format!("{}/job-{job}/manifest.json", row.reports());
        let Some(listing) = self.s3.bytes(&self.run.settings.bucket, &key, 0, LARGEST).await? else {
            return Ok(Err(format!("job {job} left no report")));
        };
        Ok(match serde_json::from_slice::<Listing>(&listing.bytes) {
            Ok(listing) => Ok(listing.files()),
            Err(error) => Err(format!("the report of job {job} cannot be read: {error}")),
        })
    }

    /// Reads the files, as far as the time allows, and saves the row after each part of them.
    async fn read(&mut self, taken: &mut TakenBatch, files: &[File]) -> Result<bool, Error> {
        while let Some(file) = files.get(self.reading.file) {
            if self.run.time_left() < RESERVE {
                return Ok(false);
            }
            let part = self.s3.bytes(&self.run.settings.bucket, &file.key, self.reading.offset, CHUNK).await?;
            let (found, read, is_last) = match &part {
                Some(part) => {
                    let (found, read) = lines(&part.bytes, part.is_last);
                    (found, read, part.is_last || read == 0)
                }
                // The results that are missing make the repair incomplete.
                None => (Vec::new(), 0, true),
            };
            for fields in found {
                match result(&fields) {
                    Some(task) if task.bucket == taken.row.bucket => {
                        self.reading.lines += 1;
                        self.findings.add(&task, &mut self.reading).await?;
                    }
                    _ => warn!("a line of the report of a job cannot be read"),
                }
            }
            self.findings.flush().await;
            self.reading.offset += u64::try_from(read).unwrap_or(u64::MAX);
            if is_last {
                (self.reading.file, self.reading.offset) = (self.reading.file + 1, 0);
            }
            taken.row.step = Step::Reading(self.reading.clone());
            taken.save(self.run).await?;
        }
        Ok(true)
    }

    /// What the report lacks, compared with the manifest and with what S3 says about the job.
    fn missing(&self, manifest: &Manifest) -> Option<String> {
        let job = manifest.job.as_deref().unwrap_or_default();
        let tried = manifest.end.as_ref().map_or(0, |end| end.succeeded + end.failed);
        if self.reading.lines < tried {
            return Some(format!("the report of job {job} has only {} of {tried} results", self.reading.lines));
        }
        let untried = manifest.tasks.saturating_sub(tried);
        (untried > 0).then(|| format!("job {job} did not come to {untried} of its {} objects", manifest.tasks))
    }
}

/// The findings about objects, as far as the ledger has them.
struct Findings<'a, L> {
    run: &'a Run<'a, L>,
    /// The code of the repair.
    code: String,
    bucket: String,
    versions: bool,
    /// When the repair was confirmed, in seconds since 1970.
    confirmed: i64,
    rows: FindingRows,
    by_key: HashMap<String, Vec<Code>>,
    outbox: Vec<FindingEvent>,
}

impl<'a, L: Store> Findings<'a, L> {
    async fn load(run: &'a Run<'a, L>, row: &BatchRow) -> Result<Self, LedgerError> {
        let mut rows = FindingRows::default();
        let mut by_key: HashMap<String, Vec<Code>> = HashMap::new();
        for row in run.ledger.each::<FindingRow>(PARTITION, "").await?.into_iter().filter_map(Result::ok) {
            let Ok(id) = row.sk.parse::<Code>() else { continue };
            if row.state.bucket.as_deref() == Some(run.settings.bucket.as_str())
                && let Some(key) = &row.state.key
            {
                by_key.entry(key.clone()).or_default().push(id.clone());
            }
            rows.insert(id, row.state, row.revision);
        }
        Ok(Self {
            run,
            code: row.code.to_string(),
            bucket: row.bucket.clone(),
            versions: row.versions,
            confirmed: row.confirmed.unwrap_or_default(),
            rows,
            by_key,
            outbox: Vec::new(),
        })
    }

    /// Resolves the finding about a repaired object, or opens one about an object that the job could not repair. An
    /// object that is gone is no finding.
    async fn add(&mut self, task: &TaskResult, reading: &mut Reading) -> Result<(), LedgerError> {
        match &task.failure {
            Some(failure) if !failure.is_gone => self.open(task, &failure.answer, reading).await,
            _ => self.resolve(&task.key, reading).await,
        }
    }

    async fn resolve(&mut self, key: &str, reading: &mut Reading) -> Result<(), LedgerError> {
        for id in self.by_key.get(key).cloned().unwrap_or_default() {
            let Some((row, revision)) = self.rows.get(&id).cloned() else { continue };
            let is_later = parse_seconds(&row.since).is_none_or(|since| since.unix_timestamp() > self.confirmed);
            // The job failed for another version of the object, or its report has the task twice.
            let has_failed = row.found_by == self.code;
            let is_of_job = row.verdict == Outcome::Reported && (self.versions || !row.of_older_version);
            if row.state == FindingState::Resolved || has_failed || is_later || !is_of_job {
                continue;
            }
            let row = row.changed(FindingState::Resolved, self.run.now());
            if self.write(&id, row, Some(revision), FindingState::Resolved).await? {
                reading.resolved += 1;
            }
        }
        Ok(())
    }

    async fn open(&mut self, task: &TaskResult, answer: &str, reading: &mut Reading) -> Result<(), LedgerError> {
        let reason =
            format!("it is under a wrong key, and S3 Batch Operations could not put it under the right key: {answer}");
        let decision = Decision::new(Outcome::Reported, reason)
            .about("bucket", &self.bucket)
            .about("object", &task.key)
            .about_some("version", task.version.as_deref());
        let Some(id) = finding::id(&decision) else { return Ok(()) };
        let new =
            FindingRow { of_older_version: self.versions, ..FindingRow::new(&decision, &self.code, self.run.now()) };
        let known = self.rows.get(&id).cloned();
        let (row, revision, state) = match known {
            // The report has the task twice, or this part of it is read again.
            Some((row, _)) if row.found_by == self.code => return Ok(()),
            None if self.rows.is_full() => {
                reading.untracked += 1;
                return Ok(());
            }
            None => (new, None, FindingState::New),
            Some((row, revision)) if row.state == FindingState::Resolved => (new, Some(revision), FindingState::New),
            Some((row, revision)) => {
                let of_older_version = row.of_older_version && self.versions;
                let state = row.state;
                let FindingRow { reason, found_by, version, .. } = new;
                (FindingRow { version, reason, found_by, of_older_version, ..row }, Some(revision), state)
            }
        };
        telemetry::decision(&finding::with_state(decision, &id, state));
        self.write(&id, row, revision, state).await.map(drop)
    }

    /// Writes the row of a finding, and returns whether no other invocation has changed it.
    async fn write(
        &mut self,
        id: &Code,
        row: FindingRow,
        revision: Option<u64>,
        state: FindingState,
    ) -> Result<bool, LedgerError> {
        match self.run.ledger.write(&row_key(id), &row, revision, self.run.request_id()).await {
            Ok(revision) => {
                if matches!(state, FindingState::New | FindingState::Resolved) {
                    self.outbox.push(FindingEvent::new(id, &row, state));
                }
                self.rows.insert(id.clone(), row, revision);
                Ok(true)
            }
            Err(error @ LedgerError::Changed(_)) => {
                warn!(error = chain(&error), "another invocation has changed a finding");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn flush(&mut self) {
        events::put(self.run, &std::mem::take(&mut self.outbox)).await;
    }
}
