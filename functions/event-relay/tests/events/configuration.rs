//! Tests that build the function from its environment and the configuration file.

use event_relay::{Error, Relay};
use sekisho_lambda::aws::{BehaviorVersion, SdkConfig};
use sekisho_lambda::{Environment, Failure};

use crate::function::CONFIG;

/// Builds the function with the text `config` in the configuration file, and without the environment variable that
/// `without` names.
fn build(config: &str, without: &str) -> Result<(), Error> {
    let file = std::env::temp_dir().join(format!("relay-{}-{:p}.toml", std::process::id(), config));
    std::fs::write(&file, config).unwrap();
    let path = file.to_string_lossy().into_owned();
    let topic = "arn:aws:sns:ap-northeast-1:111111111111:sekisho-notices";
    let variables = [("SEKISHO_CONFIG", path.as_str()), ("LEDGER_TABLE", "t"), ("NOTICE_TOPIC_ARN", topic)];
    let environment: Environment = variables.into_iter().filter(|(name, _)| *name != without).collect();
    let aws = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
    let relay = Relay::new(&environment, &aws);
    std::fs::remove_file(&file).unwrap();
    relay.map(drop).map_err(Error::from)
}

#[test]
fn a_mistake_in_the_file_or_the_environment_is_misconfigured_and_named() {
    assert!(build(CONFIG, "").is_ok());
    let routes = CONFIG.replacen("branches ", "branchs ", 1);
    let wave = "[[route]]\nname = \"shop\"\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.wave]]\n\
                name = \"one\"\nwindows = [\"Mon 10:00-16:00 Tokyo\"]\n[[route.wave.target]]\naccount = \"222222222222\"\n\
                region = \"us-east-1\"\npipeline = \"shop\"\naction = \"Source\"\n";
    let cases = [
        (build(&routes, ""), "route[0].branchs"),
        (build(&format!("{CONFIG}\n{wave}"), ""), "route[1].wave[0].windows[0]: `Tokyo`"),
        (build("[[route]\n", ""), "line 1"),
        (build("", ""), "route"),
        (build(CONFIG, "LEDGER_TABLE"), "LEDGER_TABLE"),
        (build(CONFIG, "NOTICE_TOPIC_ARN"), "NOTICE_TOPIC_ARN"),
    ];
    for (answer, key) in cases {
        let error = answer.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured", "{error}");
        assert!(error.to_string().contains(key), "{error} should name {key}");
    }
}

#[test]
fn a_mistake_in_another_section_does_not_matter() {
    assert!(build(&CONFIG.replace("default_minutes = 180", "default_minutes = 0"), "").is_ok());
}
