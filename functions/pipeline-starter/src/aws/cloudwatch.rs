//! CloudWatch: lists alarms, and reads their history.

use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    AlarmHistoryItem, AlarmType, CompositeAlarm, EvaluationState, HistoryItemType, MetricAlarm, ScanBy, StateValue,
};
use sekisho_lambda::ServiceError;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::world::{Alarm, AlarmChange, AlarmEvent, AlarmState, Extent};

/// The most items that one page may have.
const PAGE: i32 = 100;

/// Reads the metric alarms and the composite alarms whose names begin with this prefix. Without `AlarmTypes`,
/// CloudWatch would list only the metric alarms.
///
/// # Errors
/// CloudWatch does not answer, or refuses the call.
pub async fn alarms(client: &Client, prefix: &str, extent: Extent) -> Result<Vec<Alarm>, ServiceError> {
    let mut alarms = Vec::new();
    let mut page = None;
    loop {
        let request = client
            .describe_alarms()
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .set_alarm_name_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
            .set_state_value((extent == Extent::Ringing).then_some(StateValue::Alarm))
            .max_records(PAGE)
            .set_next_token(page);
        let operation = || format!("cloudwatch:DescribeAlarms of {prefix}*");
        let answer = request.send().await.map_err(|error| ServiceError::new(operation(), error))?;
        alarms.extend(answer.metric_alarms().iter().filter_map(metric_alarm));
        alarms.extend(answer.composite_alarms().iter().filter_map(composite_alarm));
        page = answer.next_token;
        if page.is_none() {
            return Ok(alarms);
        }
    }
}

fn metric_alarm(alarm: &MetricAlarm) -> Option<Alarm> {
    let cannot_be_evaluated = [EvaluationState::EvaluationError, EvaluationState::EvaluationFailure];
    let of_metrics = alarm.metrics().iter().filter_map(|query| {
        let of_metric = query.metric_stat().and_then(aws_sdk_cloudwatch::types::MetricStat::period);
        query.period().max(of_metric)
    });
    let period = alarm.period().or(of_metrics.max());
    // An alarm such as “1 out of 15 datapoints” rings after one period.
    let periods = alarm.datapoints_to_alarm().or(alarm.evaluation_periods());
    let takes = period.zip(periods).and_then(|(period, periods)| {
        Some(Duration::from_secs(u64::try_from(period).ok()?) * u32::try_from(periods).ok()?)
    });
    Some(Alarm {
        name: alarm.alarm_name()?.to_owned(),
        state: state(alarm.state_value()),
        changed: time(alarm.state_transitioned_timestamp()),
        edited: time(alarm.alarm_configuration_updated_timestamp()),
        is_evaluated: !alarm.evaluation_state().is_some_and(|state| cannot_be_evaluated.contains(state)),
        takes,
    })
}

fn composite_alarm(alarm: &CompositeAlarm) -> Option<Alarm> {
    Some(Alarm {
        name: alarm.alarm_name()?.to_owned(),
        state: state(alarm.state_value()),
        changed: time(alarm.state_transitioned_timestamp()),
        edited: time(alarm.alarm_configuration_updated_timestamp()),
        is_evaluated: true,
        takes: None,
    })
}

/// Reads the history of the alarm of this name between two times, from the oldest entry to the newest. The history of a
/// deleted alarm can be read.
///
/// # Errors
/// CloudWatch does not answer, or refuses the call, or an entry cannot be read.
pub async fn alarm_history(
    client: &Client,
    alarm: &str,
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Vec<AlarmEvent>, ServiceError> {
    let operation = || format!("cloudwatch:DescribeAlarmHistory of {alarm}");
    let mut events = Vec::new();
    let mut page = None;
    loop {
        let request = client
            .describe_alarm_history()
            .alarm_name(alarm)
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .start_date(DateTime::from_nanos(since.unix_timestamp_nanos()).unwrap_or(DateTime::from_secs(0)))
            .end_date(DateTime::from_nanos(until.unix_timestamp_nanos()).unwrap_or(DateTime::from_secs(0)))
            .scan_by(ScanBy::TimestampAscending)
            .max_records(PAGE)
            .set_next_token(page);
        let answer = request.send().await.map_err(|error| ServiceError::new(operation(), error))?;
        for item in answer.alarm_history_items() {
            match event(item) {
                Ok(event) => events.extend(event),
                Err(reason) => return Err(ServiceError::unexpected(operation(), reason)),
            }
        }
        page = answer.next_token;
        if page.is_none() {
            return Ok(events);
        }
    }
}

/// The data of an entry about a state, which CloudWatch writes as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryData {
    old_state: HistoryState,
    new_state: HistoryState,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryState {
    state_value: String,
}

/// Reads an entry. Returns `None` for an entry that is about neither the state nor the configuration.
fn event(item: &AlarmHistoryItem) -> Result<Option<AlarmEvent>, String> {
    let what = match item.history_item_type() {
        Some(HistoryItemType::StateUpdate) => {
            let data = item.history_data().unwrap_or_default();
            let data: HistoryData = serde_json::from_str(data).map_err(|error| format!("HistoryData: {error}"))?;
            let state = |written: &HistoryState| state(Some(&StateValue::from(written.state_value.as_str())));
            AlarmChange::State { from: state(&data.old_state), to: state(&data.new_state) }
        }
        Some(HistoryItemType::ConfigurationUpdate) => AlarmChange::Edited,
        _ => return Ok(None),
    };
    let at = time(item.timestamp()).ok_or("an entry of the history has no Timestamp")?;
    Ok(Some(AlarmEvent { at, what }))
}

fn state(state: Option<&StateValue>) -> AlarmState {
    match state {
        Some(StateValue::Ok) => AlarmState::Quiet,
        Some(StateValue::Alarm) => AlarmState::Ringing,
        _ => AlarmState::NoData,
    }
}

fn time(time: Option<&DateTime>) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(time?.as_nanos()).ok()
}
