use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);

fn change(number: u64) -> Change {
    let change = serde_json::json!({
        "kind": "branch",
        "repository": "arn:aws:codecommit:ap-northeast-1:111111111111:shop",
        "ref": format!("refs/heads/{}", "b".repeat(200)),
        "commit": format!("{number:040x}"),
        "previous": format!("{:040x}", number - 1),
        "sequence": number,
        "actor": format!("arn:aws:sts::111111111111:assumed-role/{}", "r".repeat(200)),
        "event": "00000000-0000-4000-8000-000000000000",
    });
    serde_json::from_value(change).unwrap()
}

fn hold(reason: &str, until: Option<u64>) -> Hold {
    let wave = Some("tokyo".to_owned());
    Hold { wave, source_ref: None, reason: reason.to_owned(), until, by: None, since: 10 }
}

#[test]
fn a_short_hold_never_ends_a_long_one() {
    for (first, second, expected) in
        [(None, Some(30), None), (Some(50), Some(30), Some(50)), (Some(20), Some(30), Some(30)), (Some(20), None, None)]
    {
        let mut row = TrainRow::default();
        assert_eq!(row.hold(hold("data is wrong", first)), None);
        assert_eq!(row.hold(hold("lunch", second)), Some(hold("data is wrong", first)));
        assert_eq!(row.holds, [hold("lunch; before: data is wrong", expected)], "{first:?} {second:?}");
    }
    let mut row = TrainRow::default();
    row.hold(hold("ended before", Some(5)));
    assert_eq!(row.hold(hold("new", Some(30))), None);
    assert_eq!(row.holds, [hold("new", Some(30))]);
}

/// The largest item of DynamoDB has 400 KB.
#[test]
fn the_largest_row_fits_into_the_ledger() {
    let mut row = TrainRow::default();
    for wave in 0..10 {
        let members = (0..100).map(|index| {
            let target = format!("{:012}/ap-northeast-1/{}", wave * 100 + index, "p".repeat(40));
            target.parse().unwrap()
        });
        let wave =
            WaveRow { name: format!("{}{wave}", "w".repeat(60)), members: members.collect(), ..WaveRow::default() };
        row.waves.push(wave);
    }
    for number in 1..=1_000 {
        assert_eq!(row.arrive(&change(number)), Arrival::Joined);
        let seen = row.newest().unwrap().seen;
        row.condemn(seen, Judge::Wave("w".repeat(60)), &"理".repeat(2_000), NOW);
    }
    for _ in 0..20 {
        row.hold(hold(&"理".repeat(500), None));
    }
    let bytes = serde_json::to_vec(&row).unwrap().len();
    assert!(row.condemned.len() == CONDEMNED_KEPT && bytes < 350_000, "{bytes} bytes");
}
