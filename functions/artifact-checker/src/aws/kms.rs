//! KMS: finds out which key a name stands for, and whether the key works.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::DateTime;
use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeyState};
use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::aws::service_error;
use crate::key::{KeyArn, KeyLife, KeyStatus};
use crate::verdict::in_words;

/// The status of keys. Each name is looked up once per invocation, so a status is never older than the invocation.
#[derive(Debug)]
pub(crate) struct Keys<'c> {
    client: &'c Later<Client>,
    described: RefCell<HashMap<String, Rc<OnceCell<Described>>>>,
}

/// What KMS says about a name.
#[derive(Debug, Clone)]
struct Described {
    status: KeyStatus,
    life: KeyLife,
    /// Whether AWS manages the key, such as `aws/s3`. `None` if KMS does not show the key.
    is_aws_managed: Option<bool>,
}

impl Described {
    fn hidden(status: KeyStatus) -> Self {
        Self { status, life: KeyLife::Works, is_aws_managed: None }
    }
}

impl<'c> Keys<'c> {
    pub(crate) fn new(client: &'c Later<Client>) -> Self {
        Self { client, described: RefCell::default() }
    }

    /// Returns the status of the key with this ARN, alias or id. If KMS refuses the lookup, the refusal is returned as
    /// a status and not as an error.
    pub(crate) async fn status(&self, name: &str) -> Result<KeyStatus, ServiceError> {
        Ok(self.described(name).await?.status)
    }

    /// Whether AWS manages the key with this ARN, alias or id. `None` if KMS does not show the key.
    pub(crate) async fn is_aws_managed(&self, name: &str) -> Result<Option<bool>, ServiceError> {
        Ok(self.described(name).await?.is_aws_managed)
    }

    /// Whether the key with this ARN, alias or id works, and for how long.
    pub(crate) async fn life(&self, name: &str) -> Result<KeyLife, ServiceError> {
        Ok(self.described(name).await?.life)
    }

    async fn described(&self, name: &str) -> Result<Described, ServiceError> {
        let cell = Rc::clone(self.described.borrow_mut().entry(name.to_owned()).or_default());
        cell.get_or_try_init(|| self.describe(name)).await.cloned()
    }

    async fn describe(&self, name: &str) -> Result<Described, ServiceError> {
        let answer = match self.client.describe_key().key_id(name).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = service_error("kms:DescribeKey", error);
                return match error.code() {
                    _ if !error.is_refused() => Err(error),
                    Some("NotFoundException") => Ok(Described::hidden(KeyStatus::Missing)),
                    _ => Ok(Described::hidden(KeyStatus::NotShown(in_words(&error)))),
                };
            }
        };
        let life = answer.key_metadata.as_ref().map_or(KeyLife::Works, life);
        let manager = answer.key_metadata.as_ref().and_then(|key| key.key_manager.as_ref());
        let is_aws_managed = manager.map(|manager| *manager == KeyManagerType::Aws);
        let key = answer.key_metadata.and_then(|key| Some((KeyArn::parse(key.arn.as_deref()?)?, key.key_state)));
        let status = match key {
            // A multi-Region key is `Updating` while its primary Region changes, and works meanwhile.
            Some((arn, Some(KeyState::Enabled | KeyState::Updating))) => KeyStatus::Usable(arn),
            Some((arn, Some(state))) => KeyStatus::Unusable(arn, state.as_str().to_owned()),
            _ => KeyStatus::NotShown("the answer contains no key or no state".to_owned()),
        };
        Ok(Described { status, life, is_aws_managed })
    }
}

/// KMS gives a time only if the key is scheduled for deletion, or if its imported material expires.
fn life(key: &KeyMetadata) -> KeyLife {
    let time = |at: &DateTime| OffsetDateTime::from_unix_timestamp(at.secs()).ok();
    if let Some(at) = key.deletion_date.as_ref().and_then(time) {
        return KeyLife::DeletedAt(at);
    }
    match key.key_state {
        Some(KeyState::Disabled) => KeyLife::Disabled,
        Some(KeyState::PendingImport) => KeyLife::WithoutMaterial,
        _ => key.valid_to.as_ref().and_then(time).map_or(KeyLife::Works, KeyLife::Expires),
    }
}
