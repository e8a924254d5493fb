//! The text that shows a train.

use serde_json::json;

use crate::targets::{report, target_row};
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, about, request};

async fn lines(train: &Train) -> Vec<String> {
    train.answer(json!({"action": "train", "route": "shop"})).await.lines().map(ToOwned::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn each_wave_has_a_line_with_its_change_and_what_it_waits_for() {
    let train = Train::new();
    assert_eq!(
        lines(&train).await,
        ["shop: no change yet.", "one-box: no change yet", "tokyo: no change yet", "world: no change yet"]
    );
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "rolling-back").await;
    train.answer(about("hold", "world")).await;
    let shown = lines(&train).await;
    assert_eq!(
        shown.iter().filter(|line| !line.ends_with("healthy")).collect::<Vec<_>>(),
        [
            "shop: the newest change is 00000000 main.",
            "one-box: 00000000 main healthy",
            "tokyo: 00000000 main 1 rolling back, 1 without a report; waits for the rollback to end",
            &format!("- {} rolling back: reason rolling-back", TOKYO[0]),
            &format!("- {} without a report", TOKYO[1]),
            "world: 00000000 main healthy; held until `resume`: why not",
        ]
        .iter()
        .filter(|line| !line.ends_with("healthy"))
        .collect::<Vec<_>>()
    );
    train.report(TOKYO[0], "rolled-back").await;
    let shown = lines(&train).await.join("\n");
    assert!(shown.contains("00000000 main is condemned in tokyo: "), "{shown}");
}

/// The mention ends the reason, and only the start of a reason is shown.
#[tokio::test(start_paused = true)]
async fn an_execution_that_no_order_started_is_mentioned_also_after_a_long_reason() {
    let mention = "execution f0, which no order is known to have started, ended later";
    for length in [10, 60, 95, 120] {
        let train = Train::new();
        train.push(1).await;
        let row = target_row(train.function.account(), ONE_BOX).unwrap();
        let mut event = report(ONE_BOX, &row, "unknown", 0);
        event["detail"]["reason"] = json!(format!("{}; {mention}", "r".repeat(length)));
        event["detail"]["foreign_execution"] = json!("f0");
        train.function.handle(&event.to_string()).await.unwrap();
        let shown = lines(&train).await.join("\n");
        assert!(shown.contains(mention) && shown.matches("known to have started").count() == 1, "{length}: {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_window_shows_when_it_opens() {
    let windows = "name = \"tokyo\"\nwindows = [\"Mon-Fri 10:00-16:00 Asia/Tokyo\"]";
    let train = Train::with(&TRAIN.replace("name = \"tokyo\"", windows));
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    let shown = lines(&train).await.join("\n");
    // The test begins on a Saturday.
    assert!(
        shown.contains("tokyo: no change yet; next is 00000000 main; closed until 2026-11-23 10:00 UTC+09:00"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_text_of_ten_waves_with_a_thousand_targets_shows_every_wave_and_fits_on_a_phone() {
    let head = TRAIN.split_once("[[route.wave]]").unwrap().0;
    let wave = |wave: usize| {
        let accounts: Vec<String> = (0..100).map(|n| format!("\"{:012}\"", wave * 1_000 + n)).collect();
        format!(
            "[[route.wave]]\nname = \"wave-{wave}\"\n[[route.wave.target]]\naccounts = [{}]\n\
             region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"\n",
            accounts.join(", ")
        )
    };
    let train = Train::with(&(head.to_owned() + &(0..10).map(wave).collect::<String>()));
    train.push(1).await;
    train.report("000000000007/ap-northeast-1/shop", "unknown").await;
    let text = lines(&train).await.join("\n");
    assert!(text.chars().count() < 1_000, "{text}");
    for wave in 0..10 {
        assert!(text.contains(&format!("wave-{wave}: ")), "{text}");
    }
    assert!(text.contains("wave-0: 00000000 main 99 without a report, 1 unknown; waits for `accept`"), "{text}");
    assert!(text.contains("- 000000000007/ap-northeast-1/shop unknown: reason unknown"), "{text}");
    assert!(text.contains("… and "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn no_text_from_outside_notifies_a_channel() {
    let train = Train::new();
    train.answer(request("hold", json!({"reason": "<!channel>\nworld: healthy", "wave": "tokyo"}))).await;
    let shown = lines(&train).await;
    assert_eq!(shown[2], "tokyo: no change yet; held until `resume`: &lt;!channel&gt; world: healthy");
    for payload in [
        json!({"train": "<!channel>"}),
        json!({"hold": "shop/<!channel>", "reason": "r"}),
        request("hold", json!({"ref": "<!channel>", "reason": "r"})),
        request("hold", json!({"ref": "refs/<!channel>", "reason": "r"})),
        request("hold", json!({"<!channel>": 1})),
        request("pardon", json!({"revision": "<!channel>", "reason": "r"})),
    ] {
        let (_, message) = train.error(payload.clone()).await;
        assert!(message.contains("!channel") && !message.contains("<!"), "{payload}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reference_leaves_out_the_changes_of_the_others() {
    let train = Train::new();
    train.push(1).await;
    train.push_to("hotfix", 2).await;
    let shown = train.answer(request("train", json!({"ref": "refs/heads/hotfix"}))).await;
    assert!(shown.starts_with("shop: the newest change is 00000000 hotfix.\n"), "{shown}");
    assert!(shown.contains("one-box: a change of another branch or tag; next is 00000000 hotfix"), "{shown}");
}
