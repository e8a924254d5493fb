//! Reports: what a target answers to an order.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use crate::account::Region;
use crate::change::{Revision, Untrusted, from_json, read_version};
use crate::route::{ActionName, PipelineName};
use crate::timestamp;

/// The `source` of the event that carries a report.
pub const REPORT_SOURCE: &str = "sekisho.starter";
/// The `detail-type` of the event that carries a report.
pub const REPORT_DETAIL_TYPE: &str = "Order Report";
/// The version of the report that this code writes and reads.
const REPORT_VERSION: u64 = 1;

/// The state of an order at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportState {
    /// The target cannot read the order, or its account does not route the change to this pipeline.
    Refused,
    /// No execution has started yet.
    Waiting,
    /// The execution runs.
    Running,
    /// The execution succeeded, and the target watches its alarms.
    Baking,
    /// The revision runs and proved healthy.
    Healthy,
    /// The execution failed, or the revision proved unhealthy and the target cannot go back.
    Failed,
    /// The target cannot tell whether the revision is healthy.
    Unknown,
    /// The target goes back to the revision that was last healthy.
    RollingBack,
    /// The target went back.
    RolledBack,
}

impl ReportState {
    /// Whether the target has finished the order. A retried stage can still reopen `failed`, and any later report
    /// replaces `unknown`.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Healthy | Self::Failed | Self::Unknown | Self::RolledBack)
    }

    /// The name of the state, as reports have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Baking => "baking",
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// A point in time of a report, in milliseconds since 1970. The event has it as text: `2026-12-01T03:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportTime(u64);

impl ReportTime {
    /// The time in milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0
    }

    /// The time for the next report about a pipeline: now, or one millisecond after the last report if that is later.
    /// Reports therefore keep their order even if the clock goes back.
    #[must_use]
    pub fn next(now: OffsetDateTime, last: Option<Self>) -> Self {
        Self(last.map_or(0, |last| last.0 + 1).max(timestamp::epoch_millis(now)))
    }
}

impl Serialize for ReportTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = i64::try_from(self.0).ok().and_then(timestamp::from_epoch_millis);
        let time = time.ok_or_else(|| serde::ser::Error::custom("the time is out of range"))?;
        serializer.serialize_str(&timestamp::millis(time))
    }
}

impl<'de> Deserialize<'de> for ReportTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = timestamp::parse_millis(&text);
        let wrong = || serde::de::Error::custom("not a time such as `2026-12-01T03:00:00.000Z`");
        Ok(Self(timestamp::epoch_millis(time.ok_or_else(wrong)?)))
    }
}

/// The `detail` of the event that reports on an order, version 1. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// The version of the format, always 1.
    pub version: u64,
    /// The pipeline. Together with the event's outer account and `region` it names the target.
    pub pipeline: PipelineName,
    /// The order's number.
    pub number: u64,
    /// The id of the order's change.
    pub id: String,
    /// The order's commit, also while the target goes back to another one.
    pub revision: Revision,
    /// The state of the order.
    pub state: ReportState,
    /// The target's region. The event's outer region is that of the bus.
    pub region: Region,
    /// The id of the order's execution, or `None` if nothing has started.
    pub execution: Option<String>,
    /// One sentence for people. Programs compare the state.
    pub reason: String,
    /// When the target made the report. Later reports about the same pipeline have later times.
    pub at: ReportTime,
    /// The end of the bake, or `None`.
    pub until: Option<ReportTime>,
    /// The commit that was last healthy at the target, or `None`.
    pub good: Option<Revision>,
    /// When the revision that runs at the target was deployed. That is the order's revision while it bakes or is healthy.
    /// In other states, it is the one that was last healthy. `None` if the target is not sure what runs, or has not
    /// recorded the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<ReportTime>,
    /// Whether the execution failed in a source action, which says nothing about the revision. Only `failed` has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_source: bool,
    /// The source actions whose first revision the order waits for. Only `waiting` has any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lacks: BTreeSet<ActionName>,
    /// An execution that ended after the order's, and that no order is known to have started. It may have changed what
    /// runs at the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_execution: Option<String>,
}

impl OrderReport {
    /// The current version of the format.
    pub const VERSION: u64 = REPORT_VERSION;

    /// Parses a `detail`.
    ///
    /// # Errors
    /// [`Untrusted`] names the field.
    pub fn parse(detail: &str) -> Result<Self, Untrusted> {
        read_version(detail, REPORT_VERSION)?;
        from_json(detail)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    /// The example in the contract.
    fn example() -> Value {
        json!({
            "version": 1, "pipeline": "shop", "number": 1_795_312_345_999_u64, "id": "ab",
            "revision": "0123456789abcdef0123456789abcdef01234567", "state": "rolling-back",
            "region": "ap-northeast-1", "execution": null, "reason": "An alarm rang.",
            "at": "2026-12-01T03:00:00.000Z", "until": null, "good": null,
        })
    }

    #[test]
    fn a_report_can_be_read_and_written() {
        let report = OrderReport::parse(&example().to_string()).unwrap();
        assert_eq!(report.state, ReportState::RollingBack);
        assert_eq!(report.at, ReportTime::next(datetime!(2026-12-01 03:00 UTC), None));
        assert_eq!((report.in_source, serde_json::to_value(&report).unwrap()), (false, example()));
        let in_source = OrderReport { in_source: true, ..report };
        assert_eq!(OrderReport::parse(&serde_json::to_string(&in_source).unwrap()).unwrap(), in_source);
        let lacks = OrderReport { lacks: ["Image".parse().unwrap()].into(), ..in_source };
        assert_eq!(OrderReport::parse(&serde_json::to_string(&lacks).unwrap()).unwrap(), lacks);
        let since = OrderReport { since: Some(lacks.at), foreign_execution: Some("e".to_owned()), ..lacks };
        assert_eq!(OrderReport::parse(&serde_json::to_string(&since).unwrap()).unwrap(), since);
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (field, value, named) in [
            ("version", json!(2), "version is 2"),
            ("number", json!("7"), "detail.number"),
            ("state", json!("great"), "detail.state"),
            ("at", json!("2026-12-01T03:00:00Z"), "detail.at"),
            ("region", json!("tokyo"), "detail.region"),
        ] {
            let mut report = example();
            report[field] = value;
            let reason = OrderReport::parse(&report.to_string()).unwrap_err().to_string();
            assert!(reason.contains(named), "{reason} should name {named}");
        }
        assert!(OrderReport::parse("[]").is_err());
    }

    #[test]
    fn the_name_of_a_state_is_its_wire_format() {
        use ReportState::{Baking, Failed, Healthy, Refused, RolledBack, RollingBack, Running, Unknown, Waiting};
        for state in [Refused, Waiting, Running, Baking, Healthy, Failed, Unknown, RollingBack, RolledBack] {
            assert_eq!(serde_json::to_value(state).unwrap(), json!(state.as_str()));
        }
    }

    #[test]
    fn times_of_reports_rise_even_if_the_clock_goes_back() {
        let first = ReportTime::next(datetime!(2026-12-01 03:00 UTC), None);
        let second = ReportTime::next(datetime!(2026-12-01 02:59 UTC), Some(first));
        assert_eq!(second.millis(), first.millis() + 1);
    }
}
