//! The ledger in memory behaves like the table, for any operations in any order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, Row, Store, Write};
use time::macros::datetime;

#[derive(Debug, Clone)]
enum Operation {
    Write { key: usize, value: u8, expected: Option<u64>, writer: u8 },
    Delete { key: usize, expected: u64 },
    Read { key: usize },
    List { prefix: usize },
}

/// A row's revision, value and writer.
type Known = (u64, BTreeMap<String, u8>, String);

const KEYS: [(&str, &str); 4] = [("a", "x"), ("a", "xy"), ("a", "z"), ("b", "x")];
const PREFIXES: [&str; 3] = ["", "x", "xy"];

fn key(index: usize) -> Key {
    let (pk, sk) = KEYS.get(index).unwrap();
    Key { pk: (*pk).to_owned(), sk: (*sk).to_owned() }
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..KEYS.len();
    prop_oneof![
        4 => (key.clone(), 0..3_u8, prop::option::of(1..5_u64), 0..2_u8)
            .prop_map(|(key, value, expected, writer)| Operation::Write { key, value, expected, writer }),
        1 => (key.clone(), 1..5_u64).prop_map(|(key, expected)| Operation::Delete { key, expected }),
        1 => key.prop_map(|key| Operation::Read { key }),
        1 => (0..PREFIXES.len()).prop_map(|prefix| Operation::List { prefix }),
    ]
}

/// The result of an operation of the ledger in memory, which never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the ledger in memory never waits"),
    }
}

proptest! {
    /// Compares the ledger in memory with a second, independent model of DynamoDB's conditions. The model holds the
    /// revision, the value and the writer for each key.
    #[test]
    fn the_ledger_in_memory_works_like_the_table(operations in prop::collection::vec(operation(), 1..60)) {
        let memory = Memory::default();
        let mut rows: BTreeMap<(&str, &str), Known> = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Write { key: index, value, expected, writer } => {
                    let (state, writer) = (BTreeMap::from([("value".to_owned(), value)]), writer.to_string());
                    let row = rows.get(&KEYS[index]).cloned();
                    let new = (expected.map_or(1, |expected| expected + 1), state.clone(), writer.clone());
                    // A write needs `attribute_not_exists(pk)` or `revision = :expected`, unless the row already has
                    // the new content.
                    let holds = match (&row, expected) {
                        (None, None) => true,
                        (Some((revision, ..)), Some(expected)) => *revision == expected,
                        _ => false,
                    };
                    let answer = now(memory.write(&key(index), &state, expected, &writer));
                    if holds || row.as_ref() == Some(&new) {
                        prop_assert_eq!(answer.unwrap(), new.0);
                        rows.insert(KEYS[index], new);
                    } else {
                        prop_assert!(matches!(answer, Err(Error::Changed(changed)) if changed == key(index)));
                    }
                }
                Operation::Delete { key: index, expected } => {
                    let answer = now(memory.delete(&key(index), expected));
                    if rows.get(&KEYS[index]).is_none_or(|(revision, ..)| *revision == expected) {
                        prop_assert!(answer.is_ok());
                        rows.remove(&KEYS[index]);
                    } else {
                        prop_assert!(matches!(answer, Err(Error::Changed(changed)) if changed == key(index)));
                    }
                }
                Operation::Read { key: index } => {
                    let row = now(memory.read::<BTreeMap<String, u8>>(&key(index))).unwrap();
                    let known = rows.get(&KEYS[index]);
                    prop_assert_eq!(row.map(|row| (row.revision, row.state)), known.map(|(r, s, _)| (*r, s.clone())));
                }
                Operation::List { prefix } => {
                    let prefix = PREFIXES[prefix];
                    let listed = now(memory.list::<BTreeMap<String, u8>>("a", prefix)).unwrap();
                    let known = rows.keys().filter(|(pk, sk)| *pk == "a" && sk.starts_with(prefix)).map(|(_, sk)| *sk);
                    prop_assert_eq!(
                        listed.iter().map(|row| row.sk.as_str()).collect::<Vec<_>>(),
                        known.collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

#[test]
fn a_ledger_out_of_reach_does_nothing() {
    let memory = Memory::default();
    now(memory.write(&key(0), &BTreeMap::from([("value", 1)]), None, "r")).unwrap();
    let before = memory.rows();
    memory.set_out_of_reach(true);
    assert!(matches!(now(memory.read::<BTreeMap<String, u8>>(&key(0))), Err(Error::Unavailable { .. })));
    assert!(matches!(now(memory.list::<BTreeMap<String, u8>>("a", "")), Err(Error::Unavailable { .. })));
    assert!(matches!(now(memory.write(&key(0), &1, Some(1), "r")), Err(Error::Unavailable { .. })));
    assert!(matches!(now(memory.delete(&key(0), 1)), Err(Error::Unavailable { .. })));
    assert_eq!(memory.rows(), before);
}

/// In an earlier version, the decisions about a thousand refusing targets were one row of 445 KB, which DynamoDB
/// rejects.
#[test]
fn many_decisions_are_divided_into_rows() {
    let memory = Memory::default();
    let decisions: Vec<_> = (0..1_000)
        .map(|n| Decision::new("failed", format!("{n} {}", "no bus ".repeat(40))).about("account", format!("{n:012}")))
        .collect();
    now(memory.record("event-relay", "request-1", datetime!(2026-11-21 12:00 UTC), &decisions)).unwrap();
    let rows = memory.rows();
    let keys: Vec<&str> = rows.iter().map(|(key, _)| key.sk.as_str()).collect();
    assert_eq!(keys, ["2026-11-21T12:00:00.000Z#request-1", "2026-11-21T12:00:00.000Z#request-1#2"]);
    let count = |value: &serde_dynamo::AttributeValue| match value {
        serde_dynamo::AttributeValue::L(values) => values.len(),
        _ => 0,
    };
    let kept: usize = rows.iter().map(|(_, row)| count(&row["decisions"])).sum();
    assert_eq!(kept, 1_000);
}

#[test]
fn the_ledger_in_memory_has_the_tables_limits() {
    let memory = Memory::default();
    let write = |pk: usize, sk: usize, value: usize| {
        let key = Key { pk: "p".repeat(pk), sk: "s".repeat(sk) };
        now(memory.write(&key, &BTreeMap::from([("value", "v".repeat(value))]), None, "r"))
    };
    assert!(write(2_048, 1_024, 400_000).is_ok());
    for (pk, sk, value) in [(2_049, 1, 1), (1, 1_025, 1), (1, 1, 410_000)] {
        let error = write(pk, sk, value).unwrap_err();
        assert!(matches!(error, Error::Unavailable { throttled: false, .. }), "{error:?}");
    }
}

#[test]
fn a_transaction_writes_all_rows_or_none() {
    let ledger = Memory::default();
    let write = |index, value: u8, expected| Write::new(key(index), &BTreeMap::from([("v", value)]), expected).unwrap();
    let values = || {
        let rows = now(ledger.read_many::<BTreeMap<String, u8>>(&[key(0), key(1)])).unwrap();
        let value = |row: Result<Option<Row<BTreeMap<String, u8>>>, Error>| {
            row.unwrap().map(|row| (row.revision, row.state["v"]))
        };
        rows.into_iter().map(value).collect::<Vec<_>>()
    };
    now(ledger.write_all(&[write(0, 1, None)], "r")).unwrap();
    let error = now(ledger.write_all(&[write(1, 2, None), write(0, 2, None)], "r")).unwrap_err();
    assert!(matches!(error, Error::Changed(changed) if changed == key(0)));
    assert_eq!(values(), [Some((1, 1)), None]);
    now(ledger.write_all(&[write(1, 3, None), write(0, 3, Some(1))], "r")).unwrap();
    assert_eq!(values(), [Some((2, 3)), Some((1, 3))]);
    let twice = [write(0, 4, Some(2)), write(0, 4, Some(2))];
    assert!(matches!(now(ledger.write_all(&twice, "r")).unwrap_err(), Error::Unavailable { .. }));
}
