//! The rows and reports of targets.

use std::time::Duration;

use event_relay::fake::FakeAccount;
use event_relay::target::{self, PlacedOrder, TargetRow};
use futures_util::FutureExt;
use sekisho_domain::order::OrderKind;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Memory, Row, Store};
use serde_json::{Value, json};

use crate::function::{MAIN, SHOP, START, commit};

/// The two targets of the configuration file.
pub const SHOP_2: &str = "222222222222/ap-northeast-1/shop";
pub const SHOP_3: &str = "333333333333/ap-northeast-1/shop";

/// The row of a target that was ordered to run the n-th commit of `main`, n milliseconds after the start.
pub fn ordered(n: u64) -> TargetRow {
    let number = epoch_millis(START) + n;
    let change = json!({
        "kind": "branch", "repository": SHOP, "ref": MAIN, "commit": commit(n), "previous": null,
        "sequence": number, "actor": null, "event": null,
    });
    let order = PlacedOrder {
        number,
        kind: OrderKind::Deploy,
        change: serde_json::from_value(change).unwrap(),
        placed: number,
        offered: number,
        offers: 1,
        refused: false,
        alerted: false,
        withdrawn: false,
        train: None,
        before: None,
    };
    TargetRow { number, order: Some(order), ..TargetRow::default() }
}

/// The event with which a target reports on the order in `row`, some minutes after the start.
pub fn report(target: &str, row: &TargetRow, state: &str, minute: u64) -> Value {
    let parts: Vec<&str> = target.split('/').collect();
    let order = row.order.as_ref().unwrap();
    let at = sekisho_domain::timestamp::millis(START + Duration::from_mins(minute));
    let good = (state == "healthy").then_some(&order.change.revision);
    json!({
        "version": "0", "id": format!("{state}-{minute}"), "detail-type": "Order Report", "source": "sekisho.starter",
        "account": parts[0], "time": "2026-11-21T12:00:00Z", "region": "ap-northeast-1", "resources": [SHOP],
        "detail": {
            "version": 1, "pipeline": parts[2], "number": order.number, "id": order.change.id(),
            "revision": order.change.revision, "state": state, "region": parts[1], "execution": null,
            "reason": "the pipeline is busy", "at": at, "until": null, "good": good,
        },
    })
}

/// The rows of the ledger, without the time and the record of a call.
fn memory(account: &FakeAccount) -> &Memory {
    &account.ledger
}

/// Writes a row that no version of the function can read.
pub fn write_unreadable(account: &FakeAccount, target: &str) {
    let revision = memory(account).read::<Value>(&key(target)).now_or_never().unwrap().unwrap().map(|row| row.revision);
    let row = json!({"number": "many"});
    memory(account).write(&key(target), &row, revision, "another").now_or_never().unwrap().unwrap();
}

fn key(target: &str) -> Key {
    target::key(&target.parse().unwrap())
}

/// The ledger's row of a target.
pub fn target_row(account: &FakeAccount, target: &str) -> Option<TargetRow> {
    read(account, target).map(|row| row.state)
}

fn read(account: &FakeAccount, target: &str) -> Option<Row<TargetRow>> {
    memory(account).read(&key(target)).now_or_never().unwrap().unwrap()
}

/// Writes the row of a target, as another invocation would.
pub fn write_target(account: &FakeAccount, target: &str, new: &TargetRow) {
    let revision = read(account, target).map(|row| row.revision);
    memory(account).write(&key(target), new, revision, "another").now_or_never().unwrap().unwrap();
}
