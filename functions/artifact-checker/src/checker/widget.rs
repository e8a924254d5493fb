//! The widget of the dashboard: reads the findings, the sweeps and the passes of the known buckets.

use std::collections::BTreeSet;
use std::iter;

use futures_util::future::try_join;
use sekisho_board::{Question, read};
use sekisho_domain::code::Code;
use sekisho_ledger::{Key, Row, Store};

use crate::checker::passes::Passes;
use crate::checker::range_state::add_open_ranges;
use crate::error::Error;
use crate::finding::{self, FindingRow};
use crate::request::SweepMode;
use crate::run::Run;
use crate::sweep_row::SweepRow;
use crate::widget::{self, Bucket, Records};

/// The documentation or the HTML. No service other than the ledger is called.
pub(crate) async fn show<L: Store>(run: &Run<'_, L>, payload: &str) -> Result<String, Error> {
    let viewer = match read(payload, "artifacts", run.now()).map_err(Error::InvalidRequest)? {
        Question::Describe => return Ok(widget::DOCUMENTATION.to_owned()),
        Question::Show(viewer) => viewer,
    };
    Ok(widget::artifacts(&viewer, &records(run).await?))
}

async fn records<L: Store>(run: &Run<'_, L>) -> Result<Records, Error> {
    let findings = run.ledger.each::<FindingRow>(finding::PARTITION, "").await?;
    let mut records = Records { buckets: Vec::new(), findings: Vec::new(), unreadable: 0 };
    for row in findings {
        match row.ok().and_then(|Row { sk, state, .. }| Some((sk.parse::<Code>().ok()?, state))) {
            Some(finding) => records.findings.push(finding),
            None => records.unreadable += 1,
        }
    }
    let settings = run.settings;
    let found = records.findings.iter().filter_map(|(_, row)| row.bucket.as_ref());
    let others: BTreeSet<&String> = settings.artifacts.buckets.keys().chain(found).collect();
    let own = &settings.bucket;
    let names: Vec<String> = iter::once(own).chain(others.into_iter().filter(|name| *name != own)).cloned().collect();
    let asked: Vec<(&str, SweepMode)> =
        names.iter().flat_map(|name| SweepMode::all().map(move |mode| (name.as_str(), mode))).collect();
    let keys: Vec<Key> = asked.iter().map(|(name, mode)| SweepRow::key(name, *mode)).collect();
    let rows = run.ledger.read_many::<SweepRow>(&keys);
    let (rows, objects) = try_join(rows, Passes::objects(run.ledger, &names)).await?;
    let mut sweeps = Vec::new();
    for ((name, mode), row) in asked.into_iter().zip(rows) {
        records.unreadable += usize::from(row.is_err());
        let sweep = row.ok().flatten().map(|row| row.state);
        sweeps.extend(sweep.filter(|sweep| mode == SweepMode::ORDINARY || !sweep.complete).map(|sweep| (name, sweep)));
    }
    records.unreadable += add_open_ranges(run.ledger, &mut sweeps).await?;
    let mut sweeps = sweeps.into_iter().peekable();
    for (name, objects) in names.iter().zip(objects) {
        let of_bucket = iter::from_fn(|| sweeps.next_if(|(of, _)| of == name));
        let sweeps = of_bucket.map(|(_, sweep)| sweep).collect();
        records.buckets.push(Bucket { name: name.clone(), sweeps, objects });
    }
    Ok(records)
}
