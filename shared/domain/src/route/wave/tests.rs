use super::*;
use crate::config::Document;
use crate::route::{Routes, TargetId};

const PLACE: &str = "region = \"us-east-1\"\npipeline = \"p\"\naction = \"Source\"\n";

/// The routes of a text, or the key and the reason of the first mistake.
fn parse(text: &str) -> Result<Routes, (String, String)> {
    let document = Document::parse("sekisho.toml", text).unwrap();
    document.routes_and_windows().map_err(|error| (error.key, error.reason))
}

fn route(name: &str, rest: &str) -> String {
    format!("[[route]]\n{name}\nrepository = \"shop\"\nbranches = [\"main\"]\n{rest}")
}

/// A wave with these keys, and a target in each of these accounts.
fn wave(keys: &str, accounts: &[char]) -> String {
    let accounts: Vec<String> = accounts.iter().map(|digit| digit.to_string().repeat(12)).collect();
    format!("[[route.wave]]\n{keys}\n[[route.wave.target]]\naccounts = {accounts:?}\n{PLACE}")
}

fn plain(account: char) -> String {
    format!("[[route.target]]\naccount = \"{}\"\n{PLACE}", account.to_string().repeat(12))
}

/// A route with one wave that has these keys beside its name.
fn keyed(keys: &str) -> String {
    route("name = \"shop\"", &wave(&format!("name = \"one-box\"\n{keys}"), &['2']))
}

fn id(account: char) -> TargetId {
    format!("{}/us-east-1/p", account.to_string().repeat(12)).parse().unwrap()
}

fn globs(patterns: &[&str]) -> AlarmGlobs {
    AlarmGlobs::try_from(patterns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_wave_has_defaults_for_everything_but_its_name() {
    let all = parse(&keyed("")).unwrap();
    let [wave] = all[0].waves() else { panic!("{all:?}") };
    assert_eq!((wave.name.as_str(), wave.bake, wave.missing), ("one-box", BakeTime::NONE, Missing::Unknown));
    assert_eq!((wave.at_once, wave.tolerate, wave.retreat), (None, 0, Retreat::Wave));
    assert!(wave.alarms.is_empty());
    assert_eq!(wave.windows, Windows::default());
    assert_eq!(wave.targets.iter().map(Target::id).collect::<Vec<_>>(), [id('2')]);
}

#[test]
fn every_key_of_a_wave_is_read() {
    let keys = "bake = \"90m\"\nalarms = [\"shop-*\", \"!shop-noise\"]\nmissing = \"healthy\"\nat_once = 5\ntolerate = 1\n\
                retreat = \"train\"\nwindows = [\"Mon-Thu 10:00-16:00 Asia/Tokyo\"]\n\
                closed = [\"2026-12-24/2027-01-04 Asia/Tokyo\"]";
    let all = parse(&keyed(keys)).unwrap();
    let [wave] = all[0].waves() else { panic!("{all:?}") };
    assert_eq!((wave.bake.seconds(), wave.missing, wave.retreat), (5_400, Missing::Healthy, Retreat::Train));
    assert_eq!((wave.at_once.map(NonZeroU32::get), wave.tolerate), (Some(5), 1));
    assert!(wave.alarms.matches("shop-errors") && !wave.alarms.matches("shop-noise"));
    assert!(wave.windows.is_open(time::macros::datetime!(2026-12-01 10:00 +9)));
    assert!(!wave.windows.is_open(time::macros::datetime!(2026-12-24 10:00 +9)));
}

#[test]
fn the_targets_of_a_route_include_those_of_its_waves_in_order() {
    let waves = wave("name = \"one-box\"", &['4']) + &wave("name = \"rest\"", &['3', '2']);
    let other =
        wave("name = \"only\"", &['3']).replace("[[route.wave.target]]", "[[route.wave.target]]\nvariables.A = \"1\"");
    let all = parse(&(route("name = \"shop\"", &waves) + &route("name = \"more\"", &other))).unwrap();
    assert_eq!(all[0].targets().iter().map(Target::id).collect::<Vec<_>>(), [id('4'), id('3'), id('2')]);
    let names = |target| all[0].wave_of(&target).map(|wave| wave.name.as_str());
    assert_eq!([names(id('4')), names(id('2')), names(id('5'))], [Some("one-box"), Some("rest"), None]);
    let three = id('3');
    let of_three: Vec<&str> = all.waves_of(&three).map(|wave| wave.name.as_str()).collect();
    assert_eq!(of_three, ["rest", "only"]);
    // The variables of the other route to the target are merged, in both places that have the target.
    let variables = |targets: &[Target]| targets.iter().find(|target| target.is(&id('3'))).unwrap().variables.clone();
    assert_eq!(variables(all[0].targets())["A"], "1");
    assert_eq!(variables(&all[0].waves()[1].targets)["A"], "1");
    let plain = parse(&route("", &plain('2'))).unwrap();
    assert!(plain[0].waves().is_empty());
}

/// Each case is a configuration with one mistake, the key that the error names, and a part of the reason.
#[test]
fn a_mistake_in_the_waves_of_a_route_is_named() {
    let named = |rest: &str| route("name = \"shop\"", rest);
    let first = wave("name = \"a\"", &['2']);
    let single = format!("[[route.wave.target]]\naccount = \"222222222222\"\n{PLACE}");
    let twice = format!("[[route.wave]]\nname = \"a\"\n{single}{single}");
    let other_action = twice.clone() + "#";
    let other_action = other_action.replacen("action = \"Source\"\n#", "action = \"Image\"", 1);
    let inside = named(&first);
    let outside = route("", &plain('2'));
    let cases = [
        (named(&wave("", &['2'])), "route[0].wave[0]", "missing field `name`"),
        (named(&wave("name = \"one box\"", &['2'])), "route[0].wave[0].name", "64 letters"),
        (named(&wave("name = \"\"", &['2'])), "route[0].wave[0].name", "the name of a wave"),
        (named(&(first.clone() + &wave("name = \"a\"", &['3']))), "route[0].wave[1].name", "wave[0]"),
        (route("", &first), "route[0]", "missing field `name`"),
        (named(&(first.clone() + &plain('3'))), "route[0]", "both `[[route.target]]` and `[[route.wave]]`"),
        (named(""), "route[0]", "`[[route.wave]]`"),
        (named("wave = []"), "route[0].wave", "empty"),
        (named("[[route.wave]]\nname = \"a\""), "route[0].wave[0].target", "[[route.wave.target]]"),
        (named(&wave("name = \"a\"", &[])), "route[0].wave[0].target[0].accounts", "empty"),
        (
            named(&(first.clone() + &wave("name = \"b\"", &['3', '2']))),
            "route[0].wave[1].target[0]",
            "wave[0].target[0]",
        ),
        (named(&twice), "route[0].wave[0].target[1]", "another target of this route"),
        (named(&other_action), "route[0].wave[0].target[1]", "another target of this route"),
        (inside.clone() + &outside, "route[1].target[0]", "route[0].wave[0].target[0] has it in a wave"),
        (outside + &inside, "route[1].wave[0].target[0]", "route[0].target[0] has it outside of waves"),
        (named(&first) + &named(&wave("name = \"b\"", &['3'])), "route[1].name", "route[0]"),
    ];
    for (text, key, part) in cases {
        let (at, reason) = parse(&text).expect_err(key);
        assert_eq!(at, key, "{reason}");
        assert!(reason.contains(part), "{reason} should contain {part}");
    }
}

/// Each case is a key of a wave with a mistake, the place that the error names, and a part of the reason.
#[test]
fn a_mistake_in_a_key_of_a_wave_is_named() {
    let long = format!("alarms = [\"{}?\"]", "a".repeat(255));
    let cases = [
        ("bake = \"30m\"", "bake", "add `alarms`"),
        ("bake = \"30m\"\nalarms = []", "bake", "add `alarms`"),
        ("bake = \"30\"\nalarms = [\"a\"]", "bake", "`30` is not a duration: write a whole number"),
        ("bake = \"169h\"\nalarms = [\"a\"]", "bake", "168h"),
        ("bake = 30\nalarms = [\"a\"]", "bake", "string"),
        ("alarms = [\"\"]", "alarms[0]", "empty"),
        ("alarms = [\"!a\"]", "alarms", "exclusions"),
        ("alarms = [\"shop-[\"]", "alarms[0]", "not a glob"),
        (
            "alarms = [\"shop\", \"arn:aws:cloudwatch:us-east-1:222222222222:alarm:shop-*\"]",
            "alarms[1]",
            "write `shop-*`",
        ),
        ("alarms = [\"shop\\t\"]", "alarms[0]", "control characters"),
        (&long, "alarms[0]", "255 characters"),
        ("missing = \"ignore\"", "missing", "unknown"),
        ("at_once = 0", "at_once", "write at least 1"),
        ("at_once = -1", "at_once", "u32"),
        ("tolerate = -1", "tolerate", "u32"),
        ("retreat = \"all\"", "retreat", "train"),
        ("windows = []", "windows", "remove the key"),
        ("windows = \"Mon 10:00-16:00 UTC\"", "windows", "sequence"),
        ("windows = [\"Mon 10:00-10:00 UTC\"]", "windows[0]", "never opens"),
        ("windows = [\"Mon 10:00-16:00 Mars/Olympus\"]", "windows[0]", "not a known time zone"),
        ("closed = [\"2026-12-24/2027-01-04 Tokyo\"]", "closed[0]", "write `Asia/Tokyo`"),
        ("closed = [\"2026-12-24/2126-12-24 UTC\"]", "closed[0]", "no window opens"),
        ("window = [\"Mon 10:00-16:00 UTC\"]", "window", "unknown field"),
    ];
    for (keys, place, part) in cases {
        let (at, reason) = parse(&keyed(keys)).expect_err(keys);
        assert_eq!(at, format!("route[0].wave[0].{place}"), "{reason}");
        assert!(reason.contains(part), "{reason} should contain {part}");
    }
}

#[test]
fn a_receiver_does_not_look_zones_up() {
    let text = keyed("windows = [\"Mon 10:00-16:00 Mars/Olympus\"]");
    let document = Document::parse("sekisho.toml", &text).unwrap();
    assert!(document.routes().is_ok() && document.routes_and_windows().is_err());
}

#[test]
fn a_star_matches_every_character_in_the_name_of_an_alarm() {
    let globs = globs(&["shop-*", "TargetTracking-*-Alarm?", "!shop-noise/**"]);
    for (name, expected) in [
        ("shop-errors", true),
        ("shop-api/errors", true),
        ("shop-", true),
        ("shop", false),
        ("my-shop-errors", false),
        ("TargetTracking-service/shop/api-AlarmHigh", false),
        ("TargetTracking-service/shop/api-Alarm/", true),
        ("shop-noise/5xx", false),
    ] {
        assert_eq!(globs.matches(name), expected, "{name}");
    }
}

#[test]
fn the_prefixes_of_alarms_are_the_literal_beginnings_of_their_globs() {
    let patterns = ["shop-*", "shop-errors", "!shop-noise-*", "{a,b}-*", "shop\\*", "b/**"];
    assert_eq!(globs(&patterns).prefixes().collect::<Vec<_>>(), ["shop-", "shop-errors", "", "shop", "b/"]);
    assert_eq!(AlarmGlobs::default().prefixes().count(), 0);
}

#[test]
fn globs_of_alarms_can_be_stored() {
    let globs = globs(&["shop-*", "!shop-noise"]);
    let stored = serde_json::to_string(&globs).unwrap();
    assert_eq!(stored, r#"["shop-*","!shop-noise"]"#);
    let read: AlarmGlobs = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, globs);
    assert!(serde_json::from_str::<AlarmGlobs>(r#"["shop-["]"#).is_err());
    // A row must stay readable if the check of the configuration becomes stricter.
    let stored = r#"["arn:aws:cloudwatch:eu-west-1:222222222222:alarm:shop"]"#;
    let written: Vec<String> = serde_json::from_str(stored).unwrap();
    assert!(GlobList::parse(&written, NameKind::Alarm).is_err());
    assert!(serde_json::from_str::<AlarmGlobs>(stored).unwrap().matches(&written[0]));
    assert_eq!(
        serde_json::to_value((Missing::Healthy, Retreat::Target)).unwrap(),
        serde_json::json!(["healthy", "target"])
    );
}
