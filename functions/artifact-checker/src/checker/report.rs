//! Writes the list of a sweep's findings to the bucket that was deployed with the function.

use std::mem;

use futures_util::future::try_join_all;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use tracing::warn;

use crate::batch::parts;
use crate::report::{csv, folder, json_lines, part};
use crate::run::Run;
use crate::sweep_row::SweepRow;

const CSV: &str = "text/csv; charset=utf-8";

/// Writes the findings that the row has and the list does not have yet, as the next part of the list, and those of them
/// that are left to S3 Batch Operations, as the next parts of the manifests. The row must be saved afterwards. If the
/// parts cannot be written, the sweep continues: the log has the findings, and the next sweep is complete again.
pub(crate) async fn write<L: Store>(run: &Run<'_, L>, bucket: &str, row: &mut SweepRow) {
    let findings = mem::take(&mut row.totals.unwritten);
    let mut left = mem::take(&mut row.totals.unwritten_left);
    // A dead attempt may have written this part with objects that this attempt has not found wrong.
    let replaces_part = row.was_interrupted();
    if findings.is_empty() && !replaces_part {
        return;
    }
    let own = &run.settings.bucket;
    let (folder, part) = (folder(bucket, row), part(row));
    let put = |folder: &str, extension: &str, kind: &'static str, body: String| {
        let path = format!("/{own}/{folder}{part}.{extension}");
        async move {
            let headers = [
                ("content-type", kind),
                ("x-amz-expected-bucket-owner", run.account()),
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", run.settings.key.as_str()),
                ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
            ];
            run.clients.reports.put(&path, &headers, body).await
        }
    };
    let mut writes = vec![
        put(&folder, "csv", CSV, csv(&findings)),
        put(&folder, "jsonl", "application/x-ndjson", json_lines(&findings)),
    ];
    if left.count > 0 || replaces_part {
        for bucket_key in [false, true] {
            let lines = left.lines.remove(&bucket_key).unwrap_or_default();
            writes.push(put(&parts(&folder, bucket_key), "csv", CSV, lines));
        }
    }
    match try_join_all(writes).await {
        Ok(_) => {
            row.forget_interruption();
            row.totals.report_parts += u32::from(!findings.is_empty());
            row.totals.left += left.count;
        }
        Err(error) => {
            warn!(error = chain(&error), folder, part, "a part of the list of findings could not be written");
            row.totals.not_listed += u64::try_from(findings.len()).unwrap_or(u64::MAX);
            row.totals.untracked += left.count;
        }
    }
}
