//! Writes the list of a sweep's findings to the bucket that was deployed with the function.

use std::mem;

use futures_util::future::try_join;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use tracing::warn;

use crate::report::{csv, folder, json_lines, part};
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// Writes the findings that the row has and the list does not have yet, as the next part of the list. The row must be
/// saved afterwards. If the part cannot be written, the sweep continues, because the log has the findings.
pub(crate) async fn write<L: Store>(run: &Run<'_, L>, bucket: &str, row: &mut SweepRow) {
    let findings = mem::take(&mut row.totals.unwritten);
    if findings.is_empty() {
        return;
    }
    let own = &run.settings.bucket;
    let path = format!("/{own}/{}{}", folder(bucket, row), part(row));
    let put = |extension: &str, kind: &'static str, body: String| {
        let path = format!("{path}.{extension}");
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
    let csv = put("csv", "text/csv; charset=utf-8", csv(&findings));
    let json_lines = put("jsonl", "application/x-ndjson", json_lines(&findings));
    match try_join(csv, json_lines).await {
        Ok(_) => row.totals.report_parts += 1,
        Err(error) => {
            warn!(error = chain(&error), path, "a part of the list of findings could not be written");
            row.totals.not_listed += u64::try_from(findings.len()).unwrap_or(u64::MAX);
        }
    }
}
