//! The function as its environment has it.

use pipeline_starter::handler::{Error, Starter};
use sekisho_lambda::aws::{BehaviorVersion, SdkConfig};
use sekisho_lambda::{Environment, Failure};

use crate::world::COMMITTED;

/// What building the function says, with this configuration file and with this variable set so.
fn wired(config: &str, variable: &str, value: &str) -> Result<(), Error> {
    let file = std::env::temp_dir().join(format!("starter-{}-{:p}.toml", std::process::id(), config));
    std::fs::write(&file, config).unwrap();
    let path = file.to_string_lossy().into_owned();
    let variables = [
        ("SEKISHO_CONFIG", path.as_str()),
        ("LEDGER_TABLE", "t"),
        ("REPOSITORY_ACCOUNT_ID", "111111111111"),
        ("NOTICE_TOPIC_ARN", "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices"),
    ];
    let set = |(name, usual)| (name, if name == variable { value } else { usual });
    let environment: Environment = variables.into_iter().map(set).collect();
    let aws = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
    let starter = Starter::new(&environment, &aws);
    std::fs::remove_file(&file).unwrap();
    starter.map(drop).map_err(Error::from)
}

#[test]
fn a_mistake_in_file_or_environment_is_misconfigured_and_named() {
    assert!(wired(COMMITTED, "", "").is_ok());
    let target = COMMITTED.replacen("\"222222222222\"", "\"22222222222\"", 1);
    let cases = [
        (wired(&target, "", ""), "route[0].target[0].account"),
        (wired("[[route]\n", "", ""), "line 1"),
        (wired(COMMITTED, "LEDGER_TABLE", ""), "LEDGER_TABLE"),
        (wired(COMMITTED, "NOTICE_TOPIC_ARN", ""), "NOTICE_TOPIC_ARN"),
        (wired(COMMITTED, "REPOSITORY_ACCOUNT_ID", ""), "REPOSITORY_ACCOUNT_ID"),
        (wired(COMMITTED, "REPOSITORY_ACCOUNT_ID", "1111"), "12 digits"),
    ];
    for (answer, key) in cases {
        let error = answer.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured", "{error}");
        assert!(error.to_string().contains(key), "{error} should name {key}");
    }
}

#[test]
fn a_mistake_in_another_section_does_not_matter_here() {
    assert!(wired(&COMMITTED.replace("default_minutes = 180", "default_minutes = 0"), "", "").is_ok());
}
