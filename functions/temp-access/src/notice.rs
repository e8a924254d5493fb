//! What people are told without having asked, through the SNS topic.

use std::collections::BTreeMap;

use aws_sdk_sns::Client;
use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_domain::notice::Notice;
use sekisho_lambda::Invocation;
use sekisho_lambda::aws::Later;

use crate::principal::{Kind, Principal};

const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The topic.
#[derive(Debug)]
pub struct Topic {
    client: Later<Client>,
    arn: String,
}

impl Topic {
    /// `arn` is what `NOTICE_TOPIC_ARN` says.
    #[must_use]
    pub fn new(client: Later<Client>, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }

    /// Publishes the notice.
    ///
    /// # Errors
    /// Where SNS did not take it, or does not say.
    pub async fn publish(&self, notice: &Notice) -> Result<(), SdkError<PublishError>> {
        let publish = self.client.publish().topic_arn(&self.arn).subject(notice.subject());
        publish.message_structure("json").message(notice.message()).send().await.map(drop)
    }
}

/// What the buttons below a notice know, which the template attaches: whose access it is about, whether it is `open` or
/// `ended`, and as what to let them in again.
#[must_use]
pub fn context(principal: &Principal, access: &str, profile: Option<&str>) -> BTreeMap<&'static str, String> {
    let said = [
        ("access", Some(access)),
        ("kind", Some(principal.kind().as_str())),
        ("name", Some(principal.name())),
        ("profile", profile),
    ];
    said.into_iter().filter_map(|(what, value)| Some((what, value?.to_owned()))).collect()
}

/// A policy of our name that is not ours and does not end.
#[must_use]
pub fn open_ended(principal: &Principal, policy: &str, why: &str) -> Notice {
    Notice {
        title: format!("Access without an end: {principal}"),
        lines: vec![
            format!("{principal} has a policy {policy} that Sekisho did not write: {why}."),
            "It is left alone. Look who wrote it, and delete it.".to_owned(),
        ],
        ..Notice::default()
    }
}

/// A policy of ours that has ended, and that this function may not delete any more.
#[must_use]
pub fn not_removed(principal: &Principal, policy: &str) -> Notice {
    Notice {
        title: format!("Ended, and not removed: {principal}"),
        lines: vec![
            format!("{principal} has a policy {policy} that gives no access any more and may not be deleted."),
            "The function's role acts only on who has the tag sekisho:access=grantable and the access boundary: put them \
             back, or delete the policy by hand."
                .to_owned(),
        ],
        ..Notice::default()
    }
}

/// CloudTrail's event history of what somebody does. A role's sessions have names of their own, so that a role is looked
/// up as what they were opened on.
#[must_use]
pub fn event_history(principal: &Principal, invocation: &Invocation) -> (String, String) {
    let console = match invocation.partition.as_str() {
        "aws-cn" => "console.amazonaws.cn",
        "aws-us-gov" => "console.amazonaws-us-gov.com",
        _ => "console.aws.amazon.com",
    };
    let by = match principal.kind() {
        Kind::User => "Username",
        Kind::Role => "ResourceName",
    };
    let region = &invocation.region;
    let name = utf8_percent_encode(principal.name(), IN_URL);
    let address = format!("https://{region}.{console}/cloudtrailv2/home?region={region}#/events?{by}={name}");
    ("What they do, in CloudTrail's event history".to_owned(), address)
}
