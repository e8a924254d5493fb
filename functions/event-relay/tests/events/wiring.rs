//! The function as its environment has it.

use event_relay::handler::{Error, Relay};
use sekisho_lambda::aws::{BehaviorVersion, SdkConfig};
use sekisho_lambda::{Environment, Failure};

use crate::world::COMMITTED;

/// What building the function says, with this configuration file and without this variable.
fn wired(config: &str, without: &str) -> Result<(), Error> {
    let file = std::env::temp_dir().join(format!("relay-{}-{:p}.toml", std::process::id(), config));
    std::fs::write(&file, config).unwrap();
    let path = file.to_string_lossy().into_owned();
    let variables =
        [("SEKISHO_CONFIG", path.as_str()), ("LEDGER_TABLE", "t"), ("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/q")];
    let environment: Environment = variables.into_iter().filter(|(name, _)| *name != without).collect();
    let aws = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
    let relay = Relay::new(&environment, &aws);
    std::fs::remove_file(&file).unwrap();
    relay.map(drop).map_err(Error::from)
}

#[test]
fn a_mistake_in_file_or_environment_is_misconfigured_and_named() {
    assert!(wired(COMMITTED, "").is_ok());
    let routes = COMMITTED.replacen("branches ", "branchs ", 1);
    let cases = [
        (wired(&routes, ""), "route[0].branchs"),
        (wired("[[route]\n", ""), "line 1"),
        (wired("", ""), "route"),
        (wired(COMMITTED, "LEDGER_TABLE"), "LEDGER_TABLE"),
        (wired(COMMITTED, "DEAD_LETTER_QUEUE_URL"), "DEAD_LETTER_QUEUE_URL"),
    ];
    for (answer, key) in cases {
        let error = answer.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured", "{error}");
        assert!(error.to_string().contains(key), "{error} should name {key}");
    }
}

#[test]
fn a_mistake_in_another_section_does_not_matter_here() {
    assert!(wired(&COMMITTED.replace("default_minutes = 180", "default_minutes = 0"), "").is_ok());
}
