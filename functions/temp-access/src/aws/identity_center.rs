//! Identity Center: who a person is, and the policy through which people get access in this account.

use std::cell::LazyCell;

use sekisho_lambda::aws::{Later, SdkConfig};
use sekisho_lambda::environment::{IDENTITY_CENTER_REGION, IDENTITY_STORE_ID, WINDOW_POLICY_ARN};
use sekisho_lambda::signed::{Service, Signed};
use sekisho_lambda::{Environment, ServiceError};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::window_row::WindowRow;

/// The service that knows the users of Identity Center.
pub const IDENTITY_STORE: Service = Service { id: "identitystore", host: "identitystore" };

/// The attributes by which a person is found, in this order.
const ATTRIBUTES: [&str; 2] = ["emails.value", "userName"];

/// How people of Identity Center get access in this account.
pub struct IdentityCenter {
    /// The identity store and its id; `None` if nobody new gets access, although people may still have it.
    store: Option<(Later<Signed>, String)>,
    /// The ARN of the policy `sekisho-window`.
    policy: String,
    /// What this process wrote last into the policy.
    last: Mutex<Option<WindowRow>>,
}

impl IdentityCenter {
    /// `service` is the identity store in Identity Center's region, `store` its id, and `policy` the ARN of
    /// `sekisho-window`.
    #[must_use]
    pub fn new(service: Later<Signed>, store: impl Into<String>, policy: impl Into<String>) -> Self {
        Self { store: Some((service, store.into())), policy: policy.into(), last: Mutex::new(None) }
    }

    /// The policy `sekisho-window` of an account that no longer knows an identity store: access can be listed and ended.
    #[must_use]
    pub fn without_store(policy: impl Into<String>) -> Self {
        Self { store: None, policy: policy.into(), last: Mutex::new(None) }
    }

    /// Whether people can be looked up.
    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// The one that the template names; `None` if there is no policy.
    pub(crate) fn of_process(environment: &Environment, aws: &SdkConfig) -> Option<Self> {
        let policy = environment.optional(WINDOW_POLICY_ARN)?;
        let (store, region) = (environment.optional(IDENTITY_STORE_ID), environment.optional(IDENTITY_CENTER_REGION));
        let (Some(store), Some(region)) = (store, region) else { return Some(Self::without_store(policy)) };
        let (aws, region) = (aws.clone(), region.to_owned());
        let make: Box<dyn FnOnce() -> Signed> = Box::new(move || Signed::new(&aws, &IDENTITY_STORE, Some(&region)));
        Some(Self::new(LazyCell::new(make), store, policy))
    }

    /// The ARN of the policy `sekisho-window`.
    pub(crate) fn policy(&self) -> &str {
        &self.policy
    }

    /// Waits until no other step of this invocation writes the policy. Returns what this process wrote last.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, Option<WindowRow>> {
        self.last.lock().await
    }

    /// The user id of the person with this e-mail address or user name; `None` if there is no such person.
    pub(crate) async fn user_id(&self, name: &str) -> Result<Option<String>, ServiceError> {
        let Some((service, store)) = &self.store else { return Ok(None) };
        for attribute in ATTRIBUTES {
            let unique = json!({"AttributePath": attribute, "AttributeValue": name});
            let alternate = json!({"UniqueAttribute": unique});
            let body = json!({"IdentityStoreId": store, "AlternateIdentifier": alternate});
            match service.json("AWSIdentityStore.GetUserId", &body).await {
                Ok(answer) => match answer.get("UserId").and_then(serde_json::Value::as_str) {
                    Some(id) => return Ok(Some(id.to_owned())),
                    None => return Err(ServiceError::unexpected("identitystore:GetUserId", "no user id")),
                },
                Err(error) if error.code() == Some("ResourceNotFoundException") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
