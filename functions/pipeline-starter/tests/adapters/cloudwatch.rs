//! CloudWatch's messages are CBOR, and its operations are in the path of the request.

use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use pipeline_starter::aws::cloudwatch::{alarm_history, alarms};
use pipeline_starter::world::{Alarm, AlarmChange, AlarmEvent, AlarmState, Extent};
use sekisho_testing::wire::{Answer, Request, Wire};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::cbor;

const CHANGED: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
const EDITED: OffsetDateTime = datetime!(2026-11-20 08:00 UTC);

fn answer(body: &Value) -> Answer {
    Answer::Cbor(200, cbor::encode(body))
}

fn refused(code: &str) -> Answer {
    Answer::Cbor(
        400,
        cbor::encode(&json!({"__type": format!("com.amazonaws.cloudwatch#{code}"), "message": "as it is"})),
    )
}

fn body(request: &Request) -> Value {
    cbor::decode(&request.bytes)
}

fn time(time: OffsetDateTime) -> Value {
    json!({"$time": f64::from(u32::try_from(time.unix_timestamp()).unwrap())})
}

fn metric_alarm(name: &str, state: &str) -> Value {
    json!({"AlarmName": name, "StateValue": state, "Period": 60, "EvaluationPeriods": 5,
           "StateTransitionedTimestamp": time(CHANGED), "AlarmConfigurationUpdatedTimestamp": time(EDITED)})
}

fn expected(name: &str, state: AlarmState) -> Alarm {
    Alarm {
        name: name.to_owned(),
        state,
        changed: Some(CHANGED),
        edited: Some(EDITED),
        is_evaluated: true,
        takes: Some(Duration::from_mins(5)),
    }
}

#[tokio::test]
async fn metric_and_composite_alarms_are_listed_page_by_page() {
    let composite = json!({"AlarmName": "shop-all", "StateValue": "ALARM", "StateTransitionedTimestamp": time(CHANGED),
                           "AlarmConfigurationUpdatedTimestamp": time(EDITED)});
    let wire = Wire::answering([
        answer(&json!({"MetricAlarms": [metric_alarm("shop-a", "OK")], "NextToken": "more"})),
        answer(&json!({"MetricAlarms": [metric_alarm("shop-b", "INSUFFICIENT_DATA")], "CompositeAlarms": [composite]})),
    ]);
    let found = alarms(&Client::new(&wire.config()), "shop-", Extent::All).await.unwrap();
    let composite = Alarm { takes: None, ..expected("shop-all", AlarmState::Ringing) };
    assert_eq!(found, [expected("shop-a", AlarmState::Quiet), expected("shop-b", AlarmState::NoData), composite]);
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "DescribeAlarms");
    let first = json!({"AlarmNamePrefix": "shop-", "AlarmTypes": ["MetricAlarm", "CompositeAlarm"], "MaxRecords": 100});
    assert_eq!(body(&requests[0]), first);
    assert_eq!(body(&requests[1])["NextToken"], "more");
}

#[tokio::test]
async fn ringing_alarms_are_asked_for_by_their_state_and_an_empty_prefix_is_left_out() {
    let wire = Wire::answering([answer(&json!({"MetricAlarms": [], "CompositeAlarms": []}))]);
    assert_eq!(alarms(&Client::new(&wire.config()), "", Extent::Ringing).await.unwrap(), []);
    let asked = json!({"AlarmTypes": ["MetricAlarm", "CompositeAlarm"], "StateValue": "ALARM", "MaxRecords": 100});
    assert_eq!(body(&wire.requests()[0]), asked);
}

#[tokio::test]
async fn an_alarm_of_a_formula_has_the_longest_period_and_an_error_of_its_evaluation_is_read() {
    let queries = json!([
        {"Id": "e", "Expression": "a / b"},
        {"Id": "a", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "A"}, "Period": 300, "Stat": "Sum"}},
        {"Id": "b", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "B"}, "Period": 60, "Stat": "Sum"}},
    ]);
    let alarm = json!({"AlarmName": "shop-rate", "StateValue": "OK", "EvaluationPeriods": 3, "Metrics": queries,
                       "EvaluationState": "EVALUATION_ERROR"});
    let wire = Wire::answering([answer(&json!({"MetricAlarms": [alarm]}))]);
    let found = alarms(&Client::new(&wire.config()), "shop-", Extent::All).await.unwrap();
    assert_eq!((found[0].takes, found[0].is_evaluated), (Some(Duration::from_mins(15)), false));
    assert_eq!((found[0].changed, found[0].edited), (None, None));
}

#[tokio::test]
async fn an_alarm_rings_after_as_many_periods_as_must_be_bad() {
    let mut alarm = metric_alarm("shop-a", "OK");
    for (datapoints, minutes) in [(Some(1), 1), (Some(3), 3), (None, 5)] {
        alarm["DatapointsToAlarm"] = json!(datapoints);
        if datapoints.is_none() {
            alarm.as_object_mut().unwrap().remove("DatapointsToAlarm");
        }
        let wire = Wire::answering([answer(&json!({"MetricAlarms": [alarm]}))]);
        let found = alarms(&Client::new(&wire.config()), "shop-", Extent::All).await.unwrap();
        assert_eq!(found[0].takes, Some(Duration::from_mins(minutes)), "{datapoints:?}");
    }
}

#[tokio::test]
async fn the_history_of_an_alarm_has_its_states_and_its_edits() {
    let states = r#"{"version":"1.0","oldState":{"stateValue":"OK"},"newState":{"stateValue":"ALARM"}}"#;
    let item = |kind: &str, data: &str| json!({"AlarmName": "shop-a", "HistoryItemType": kind, "HistoryData": data, "Timestamp": time(CHANGED)});
    let wire = Wire::answering([
        answer(&json!({"AlarmHistoryItems": [item("StateUpdate", states), item("Action", "{}")], "NextToken": "more"})),
        answer(&json!({"AlarmHistoryItems": [item("ConfigurationUpdate", "{}")]})),
    ]);
    let until = CHANGED + Duration::from_mins(30);
    let events = alarm_history(&Client::new(&wire.config()), "shop-a", CHANGED, until).await.unwrap();
    let rang = AlarmChange::State { from: AlarmState::Quiet, to: AlarmState::Ringing };
    assert_eq!(events, [rang, AlarmChange::Edited].map(|what| AlarmEvent { at: CHANGED, what }));
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "DescribeAlarmHistory");
    let asked = json!({"AlarmName": "shop-a", "AlarmTypes": ["MetricAlarm", "CompositeAlarm"], "MaxRecords": 100,
                       "ScanBy": "TimestampAscending", "StartDate": time(CHANGED), "EndDate": time(until)});
    assert_eq!(body(&requests[0]), asked);
    assert_eq!(body(&requests[1])["NextToken"], "more");
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_an_error() {
    let item = json!({"AlarmName": "shop-a", "HistoryItemType": "StateUpdate", "HistoryData": "ALARM",
                      "Timestamp": time(CHANGED)});
    let wire = Wire::answering([answer(&json!({"AlarmHistoryItems": [item]}))]);
    let error = alarm_history(&Client::new(&wire.config()), "shop-a", CHANGED, CHANGED).await.unwrap_err();
    assert!(error.description().contains("HistoryData"), "{error:?}");
}

#[tokio::test]
async fn a_refusal_and_throttling_are_told_apart() {
    for (code, is_refused, is_throttled) in
        [("AccessDenied", true, false), ("AccessDeniedException", true, false), ("Throttling", false, true)]
    {
        let wire = Wire::answering([refused(code), refused(code)]);
        let client = Client::new(&wire.config());
        let error = alarms(&client, "shop-", Extent::All).await.unwrap_err();
        assert_eq!((error.is_refused(), error.is_throttled()), (is_refused, is_throttled), "{error:?}");
        let error = alarm_history(&client, "shop-a", CHANGED, CHANGED).await.unwrap_err();
        assert_eq!((error.is_refused(), error.is_throttled()), (is_refused, is_throttled), "{error:?}");
    }
}
