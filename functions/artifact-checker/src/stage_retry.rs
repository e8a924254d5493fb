//! Decides whether the stage of a pipeline that failed because of an artifact is retried after the artifact's repair.

use std::time::Duration;

use sekisho_domain::timestamp::seconds;
use sekisho_ledger::Key;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The partition in which pipeline-starter keeps the newest order of each pipeline.
const ORDERS: &str = "order";
/// How long the row of a retry is kept. CodePipeline shows an execution for 12 months.
const RETENTION: Duration = Duration::from_hours(24 * 400);
/// The clocks of CodePipeline and of this function differ by less.
const CLOCKS: Duration = Duration::from_secs(1);

/// How the run of an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunStatus {
    Running,
    Failed,
}

/// The last run of an action in an execution, if it has not ended or has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActionRun {
    pub(crate) pipeline: String,
    pub(crate) execution: String,
    pub(crate) stage: String,
    pub(crate) action: String,
    pub(crate) status: RunStatus,
    /// When the run began, if CodePipeline says so.
    pub(crate) began: Option<OffsetDateTime>,
    /// The code of the error, if the action failed.
    pub(crate) error: Option<String>,
    /// Whether the action failed because it lacks a permission of KMS, or because its build could not read its input.
    pub(crate) was_denied: bool,
    /// The id of the action's build in CodeBuild.
    pub(crate) build: Option<String>,
    /// The account of the action's role; `None` if the action uses the pipeline's role.
    pub(crate) account: Option<String>,
    /// The keys of the artifacts that the action read from the bucket.
    pub(crate) inputs: Vec<String>,
}

impl ActionRun {
    fn has_read(&self, key: &str) -> bool {
        self.inputs.iter().any(|input| input == key)
    }

    /// Whether the action read the artifact with this key, and may have done so before its repair. An action that began
    /// after the repair reads the repaired object.
    fn may_have_read_before(&self, key: &str, repaired: OffsetDateTime) -> bool {
        self.has_read(key) && self.began.is_none_or(|began| began <= repaired + CLOCKS)
    }

    fn is_of_stage(&self, other: &Self) -> bool {
        (&self.pipeline, &self.execution, &self.stage) == (&other.pipeline, &other.execution, &other.stage)
    }
}

/// What became of the actions that read an artifact before its repair.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading<'r> {
    /// No action that read the artifact has failed or is running.
    Unaffected,
    /// An action that reads the artifact is running.
    Running,
    /// These actions of one stage failed, and at least one of them had read the artifact.
    Failed(Vec<&'r ActionRun>),
}

/// What became of the actions that read the artifact with this key before its repair. `runs` begins with the latest.
pub(crate) fn reading<'r>(runs: &'r [ActionRun], key: &str, repaired: OffsetDateTime) -> Reading<'r> {
    let mut readers = runs.iter().filter(|run| run.may_have_read_before(key, repaired));
    if readers.clone().any(|run| run.status == RunStatus::Running) {
        return Reading::Running;
    }
    match readers.next() {
        None => Reading::Unaffected,
        Some(reader) => {
            let failed = |run: &&ActionRun| run.is_of_stage(reader) && run.status == RunStatus::Failed;
            Reading::Failed(runs.iter().filter(failed).collect())
        }
    }
}

/// The key that an artifact was under before its repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldKey {
    /// S3's own key, which every reader of the object can use.
    S3Managed,
    /// A key that AWS manages, such as `aws/s3`. Only its own account can use such a key.
    AwsManaged,
    /// A key of a customer, whose policy decides who can use it.
    Customer,
}

/// The reason why the failed actions of a stage are not retried after the repair of the artifact with this key. `None`
/// if each of them had read the artifact and could not use its old key. `account` is the pipeline's account.
pub(crate) fn objection(failed: &[ActionRun], key: &str, old_key: OldKey, account: &str) -> Option<String> {
    failed.iter().find_map(|run| {
        let action = &run.action;
        if !run.has_read(key) {
            return Some(format!("the action {action} of the stage failed, too, and had not read the artifact"));
        }
        let is_own = run.account.as_deref().is_none_or(|of_role| of_role == account);
        match old_key {
            OldKey::AwsManaged if !is_own => None,
            OldKey::Customer if run.was_denied => None,
            OldKey::S3Managed | OldKey::AwsManaged => {
                Some(format!("the role of the action {action} can use the old key"))
            }
            OldKey::Customer => Some(format!(
                "the action {action} failed with {}, which does not show that its role cannot use the old key",
                run.error.as_deref().unwrap_or("no error code")
            )),
        }
    })
}

/// The part of pipeline-starter's row of a pipeline's newest order that says which execution the order has.
#[derive(Debug, Deserialize)]
pub(crate) struct NewestOrder {
    execution: Option<String>,
    #[serde(default)]
    may_run: bool,
    progress: Progress,
    #[serde(default)]
    way_back: Option<WayBack>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Progress {
    Claimed(IgnoredAny),
    Waiting(IgnoredAny),
    Running(IgnoredAny),
    Ended(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct WayBack {
    execution: Option<String>,
}

impl NewestOrder {
    pub(crate) fn key(pipeline: &str) -> Key {
        Key { pk: ORDERS.to_owned(), sk: pipeline.to_owned() }
    }

    /// Whether the execution belongs to the order. If the target goes back, this is so until the rollback may have
    /// started.
    pub(crate) fn has(&self, execution: &str) -> bool {
        let is = |id: &Option<String>| id.as_deref() == Some(execution);
        match &self.way_back {
            Some(way_back) => {
                let waits = matches!(self.progress, Progress::Waiting(_)) && !self.may_run;
                self.execution.is_none() && waits && is(&way_back.execution)
            }
            None => is(&self.execution),
        }
    }
}

/// The row of a retried stage, which exists so that the stage is retried only once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StageRetryRow {
    /// When the stage was retried, such as `2026-11-21T23:45:00Z`.
    at: String,
    /// The key of the repaired artifact. The ledger takes an equal row of the same invocation for its own, so the rows
    /// of two artifacts that one invocation repairs must differ.
    #[serde(default)]
    artifact: String,
    /// Whether CodePipeline has answered that it did not retry the stage. Without an answer, it may have.
    #[serde(default)]
    refused: bool,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: i64,
}

impl StageRetryRow {
    pub(crate) fn new(artifact: &str, now: OffsetDateTime) -> Self {
        let expires = (now + RETENTION).unix_timestamp();
        Self { at: seconds(now), artifact: artifact.to_owned(), refused: false, expires }
    }

    pub(crate) fn refused(self) -> Self {
        Self { refused: true, ..self }
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn key(run: &ActionRun) -> Key {
        Key::state(format!("stage-retry#{}#{}#{}", run.pipeline, run.execution, run.stage))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 23:45 UTC);
    const ACCOUNT: &str = "222222222222";

    fn run(stage: &str, action: &str, status: RunStatus, inputs: &[&str]) -> ActionRun {
        ActionRun {
            pipeline: "shop".into(),
            execution: "e".into(),
            stage: stage.into(),
            action: action.into(),
            status,
            began: None,
            error: Some("JobFailed".into()),
            was_denied: false,
            build: None,
            account: None,
            inputs: inputs.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    #[test]
    fn the_failed_actions_are_those_of_the_stage_that_read_the_artifact() {
        use RunStatus::{Failed, Running};
        let runs = [
            run("Deploy", "Stack", Failed, &["a", "b"]),
            run("Deploy", "Other", Failed, &["c"]),
            run("Test", "Unit", Failed, &["d"]),
            run("Test", "Load", Running, &["e"]),
        ];
        assert_eq!(reading(&runs, "b", NOW), Reading::Failed(vec![&runs[0], &runs[1]]));
        assert_eq!(reading(&runs, "e", NOW), Reading::Running);
        assert_eq!(reading(&runs, "x", NOW), Reading::Unaffected);
    }

    #[test]
    fn an_action_that_began_after_the_repair_is_not_affected() {
        for status in [RunStatus::Failed, RunStatus::Running] {
            for (seconds, expected) in [(-60, false), (1, false), (2, true)] {
                let began = Some(NOW + time::Duration::seconds(seconds));
                let runs = [ActionRun { began, ..run("Deploy", "Stack", status, &["a"]) }];
                let is_unaffected = reading(&runs, "a", NOW) == Reading::Unaffected;
                assert_eq!(is_unaffected, expected, "{status:?} {seconds}");
            }
        }
    }

    #[test]
    fn a_stage_is_retried_only_if_every_failed_action_read_the_artifact_and_could_not_use_its_key() {
        let failed = |account: Option<&str>, was_denied| ActionRun {
            account: account.map(str::to_owned),
            was_denied,
            ..run("Deploy", "Stack", RunStatus::Failed, &["a"])
        };
        let other = Some("444444444444");
        let cases = [
            (OldKey::S3Managed, other, true, false),
            (OldKey::AwsManaged, other, true, true),
            (OldKey::AwsManaged, other, false, true),
            (OldKey::AwsManaged, None, true, false),
            (OldKey::AwsManaged, Some(ACCOUNT), true, false),
            (OldKey::Customer, None, true, true),
            (OldKey::Customer, other, true, true),
            (OldKey::Customer, other, false, false),
            (OldKey::Customer, None, false, false),
        ];
        for (old_key, account, was_denied, expected) in cases {
            let objection = objection(&[failed(account, was_denied)], "a", old_key, ACCOUNT);
            assert_eq!(objection.is_none(), expected, "{old_key:?} {account:?} {was_denied}: {objection:?}");
        }
        let both = [failed(None, true), run("Deploy", "Other", RunStatus::Failed, &["b"])];
        assert!(objection(&both, "a", OldKey::Customer, ACCOUNT).unwrap().contains("Other"));
    }

    #[test]
    fn an_execution_belongs_to_the_newest_order_until_a_rollback_may_have_started() {
        let has = |row: serde_json::Value| serde_json::from_value::<NewestOrder>(row).unwrap().has("e");
        let waiting = || serde_json::json!({"waiting": {"cause": "busy", "next": 1}});
        let back = || serde_json::json!({"reason": "r", "execution": "e", "run": 1});
        let cases = [
            (serde_json::json!({"execution": "e", "progress": {"ended": "failed"}, "may_run": false}), true),
            (serde_json::json!({"execution": "e", "progress": {"running": {"check": 1}}, "may_run": false}), true),
            (serde_json::json!({"execution": "f", "progress": {"ended": "failed"}, "may_run": false}), false),
            (serde_json::json!({"execution": null, "progress": waiting(), "may_run": false}), false),
            (serde_json::json!({"execution": null, "progress": waiting(), "may_run": false, "way_back": back()}), true),
            (serde_json::json!({"execution": null, "progress": waiting(), "may_run": true, "way_back": back()}), false),
            (serde_json::json!({"execution": null, "progress": {"claimed": 1}, "way_back": back()}), false),
            (serde_json::json!({"execution": "f", "progress": {"running": {"check": 1}}, "way_back": back()}), false),
        ];
        for (row, expected) in cases {
            assert_eq!(has(row.clone()), expected, "{row}");
        }
    }
}
