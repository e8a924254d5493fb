//! Tests that build the function from its environment and its configuration file.

use pipeline_starter::{Error, Starter};
use sekisho_lambda::aws::{BehaviorVersion, SdkConfig};
use sekisho_lambda::{Environment, Failure};

use crate::function::COMMITTED_CONFIG;

/// Builds the function with the text `config` in the configuration file, and with one environment variable set to
/// another value.
fn build(config: &str, variable: &str, value: &str) -> Result<(), Error> {
    let file = std::env::temp_dir().join(format!("starter-{}-{:p}.toml", std::process::id(), config));
    std::fs::write(&file, config).unwrap();
    let path = file.to_string_lossy().into_owned();
    let variables = [
        ("SEKISHO_CONFIG", path.as_str()),
        ("LEDGER_TABLE", "t"),
        ("REPOSITORY_ACCOUNT_ID", "111111111111"),
        ("NOTICE_TOPIC_ARN", "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices"),
    ];
    let set = |(name, default)| (name, if name == variable { value } else { default });
    let environment: Environment = variables.into_iter().map(set).collect();
    let aws = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
    let starter = Starter::new(&environment, &aws);
    std::fs::remove_file(&file).unwrap();
    starter.map(drop).map_err(Error::from)
}

#[test]
fn a_mistake_in_the_file_or_the_environment_is_misconfigured_and_its_key_is_named() {
    assert!(build(COMMITTED_CONFIG, "", "").is_ok());
    let target = COMMITTED_CONFIG.replacen("\"222222222222\"", "\"22222222222\"", 1);
    let cases = [
        (build(&target, "", ""), "route[0].target[0].account"),
        (build("[[route]\n", "", ""), "line 1"),
        (build(COMMITTED_CONFIG, "LEDGER_TABLE", ""), "LEDGER_TABLE"),
        (build(COMMITTED_CONFIG, "NOTICE_TOPIC_ARN", ""), "NOTICE_TOPIC_ARN"),
        (build(COMMITTED_CONFIG, "REPOSITORY_ACCOUNT_ID", ""), "REPOSITORY_ACCOUNT_ID"),
        (build(COMMITTED_CONFIG, "REPOSITORY_ACCOUNT_ID", "1111"), "12 digits"),
    ];
    for (built, key) in cases {
        let error = built.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured", "{error}");
        assert!(error.to_string().contains(key), "{error} should name {key}");
    }
}

#[test]
fn a_mistake_in_another_section_is_ignored() {
    assert!(build(&COMMITTED_CONFIG.replace("default_minutes = 180", "default_minutes = 0"), "", "").is_ok());
}
