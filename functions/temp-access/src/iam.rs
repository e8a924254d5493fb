//! IAM: users, roles and their inline policies.

use std::fmt;

use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::{AttachedPermissionsBoundary, EntityType, PolicyDetail, Tag};
use percent_encoding::percent_decode_str;
use sekisho_lambda::aws::Later;

use crate::policy;
use crate::principal::{Kind, Principal};

/// The tag that says that a principal may be granted access.
pub const TAG: (&str, &str) = ("sekisho:access", "grantable");

/// Users and roles on a page: IAM gives up to 1,000, and 100 to who does not ask for more.
const PAGE: i32 = 1_000;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No such user, role or policy.
    Missing,
    /// Too many characters of inline policies.
    TooLarge,
    /// Too many requests.
    Throttled,
    /// The function's role, or the organization, does not allow it.
    Denied,
    /// IAM does not take the policy's text.
    Malformed,
    /// Another answer that says that nothing was done.
    Other,
    /// No answer, or one that leaves open whether something was done.
    Silent,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("IAM's {operation} {}{}", .why, remedy(.operation, *.why))]
pub struct Failed {
    /// Such as `PutUserPolicy`.
    pub operation: &'static str,
    /// In one word.
    pub why: Why,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Failed {
    /// A call that was not waited for any longer.
    #[must_use]
    pub fn silent(operation: &'static str) -> Self {
        Self { operation, why: Why::Silent, source: "no answer in time".into() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "finds no such thing any more",
            Self::TooLarge => "says that the policies are too large together: remove other inline policies",
            Self::Throttled => "is throttled: try again in a minute",
            Self::Denied => "is denied to this function: its role acts only on principals with tag and boundary",
            Self::Malformed => "does not take the policy: correct the profile in the configuration",
            Self::Other => "failed: the function's log says why",
            Self::Silent => "did not answer",
        })
    }
}

/// What to do where a policy can't be deleted: its principal was prepared when it was granted.
fn remedy(operation: &str, why: Why) -> &'static str {
    if why == Why::Denied && operation.starts_with("Delete") {
        ". Put tag and boundary back and revoke again, or delete the policy by hand"
    } else {
        ""
    }
}

/// A user or role, as far as a grant asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name in IAM's own spelling; IAM finds names without regard to case.
    pub name: String,
    /// Such as `/` or `/aws-reserved/sso.amazonaws.com/`.
    pub path: String,
    /// Whether it has the tag.
    pub grantable: bool,
    /// ARN of its permissions boundary.
    pub boundary: Option<String>,
}

/// A policy of our name, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub principal: Principal,
    /// The policy's name.
    pub name: String,
    /// Its text.
    pub document: String,
}

/// IAM of this account.
#[derive(Debug)]
pub struct Iam {
    client: Later<Client>,
}

impl Iam {
    /// Calls through this client.
    #[must_use]
    pub fn new(client: Later<Client>) -> Self {
        Self { client }
    }

    /// The user or role; `None` where there is none.
    ///
    /// # Errors
    /// Where IAM does not say.
    pub async fn person(&self, principal: &Principal) -> Result<Option<Person>, Failed> {
        let name = principal.name();
        let found = match principal.kind() {
            Kind::User => match self.client.get_user().user_name(name).send().await {
                Ok(answer) => Ok(answer
                    .user
                    .map(|user| person(&user.user_name, &user.path, user.tags(), user.permissions_boundary()))),
                Err(error) => Err(failed("GetUser", error)),
            },
            Kind::Role => match self.client.get_role().role_name(name).send().await {
                Ok(answer) => Ok(answer
                    .role
                    .map(|role| person(&role.role_name, &role.path, role.tags(), role.permissions_boundary()))),
                Err(error) => Err(failed("GetRole", error)),
            },
        };
        or_missing(found)
    }

    /// The names of all its inline policies.
    ///
    /// # Errors
    /// Where IAM does not say.
    pub async fn policy_names(&self, principal: &Principal) -> Result<Vec<String>, Failed> {
        let name = principal.name();
        match principal.kind() {
            Kind::User => {
                let pages = self.client.list_user_policies().user_name(name).into_paginator().items().send();
                pages.collect::<Result<_, _>>().await.map_err(|error| failed("ListUserPolicies", error))
            }
            Kind::Role => {
                let pages = self.client.list_role_policies().role_name(name).into_paginator().items().send();
                pages.collect::<Result<_, _>>().await.map_err(|error| failed("ListRolePolicies", error))
            }
        }
    }

    /// An inline policy's text; `None` where there is none.
    ///
    /// # Errors
    /// Where IAM does not say.
    pub async fn policy(&self, principal: &Principal, policy: &str) -> Result<Option<String>, Failed> {
        let name = principal.name();
        let found = match principal.kind() {
            Kind::User => match self.client.get_user_policy().user_name(name).policy_name(policy).send().await {
                Ok(answer) => Ok(Some(decoded(&answer.policy_document))),
                Err(error) => Err(failed("GetUserPolicy", error)),
            },
            Kind::Role => match self.client.get_role_policy().role_name(name).policy_name(policy).send().await {
                Ok(answer) => Ok(Some(decoded(&answer.policy_document))),
                Err(error) => Err(failed("GetRolePolicy", error)),
            },
        };
        or_missing(found)
    }

    /// Puts an inline policy, in place of one of the same name.
    ///
    /// # Errors
    /// Where IAM did not, or does not say.
    pub async fn put(&self, principal: &Principal, policy: &str, document: &str) -> Result<(), Failed> {
        let name = principal.name();
        match principal.kind() {
            Kind::User => {
                let put = self.client.put_user_policy().user_name(name).policy_name(policy).policy_document(document);
                put.send().await.map(drop).map_err(|error| failed("PutUserPolicy", error))
            }
            Kind::Role => {
                let put = self.client.put_role_policy().role_name(name).policy_name(policy).policy_document(document);
                put.send().await.map(drop).map_err(|error| failed("PutRolePolicy", error))
            }
        }
    }

    /// Deletes an inline policy; one that is gone already is no error.
    ///
    /// # Errors
    /// Where IAM did not, or does not say.
    pub async fn delete(&self, principal: &Principal, policy: &str) -> Result<(), Failed> {
        let name = principal.name();
        let deleted = match principal.kind() {
            Kind::User => {
                let delete = self.client.delete_user_policy().user_name(name).policy_name(policy);
                delete.send().await.map(|_| None).map_err(|error| failed("DeleteUserPolicy", error))
            }
            Kind::Role => {
                let delete = self.client.delete_role_policy().role_name(name).policy_name(policy);
                delete.send().await.map(|_| None).map_err(|error| failed("DeleteRolePolicy", error))
            }
        };
        or_missing(deleted).map(|_: Option<()>| ())
    }

    /// The inline policies of our name on a page of this account's users and roles, and where the next page begins; from
    /// the first page where `marker` is `None`.
    ///
    /// # Errors
    /// Where IAM does not say.
    pub async fn page_of_our_name(&self, marker: Option<String>) -> Result<(Vec<Found>, Option<String>), Failed> {
        let details = self.client.get_account_authorization_details().max_items(PAGE).set_marker(marker);
        let page = details.filter(EntityType::User).filter(EntityType::Role).send().await;
        let page = page.map_err(|error| failed("GetAccountAuthorizationDetails", error))?;
        let mut found = Vec::new();
        for user in page.user_detail_list.unwrap_or_default() {
            keep_ours(&mut found, Kind::User, user.user_name, user.user_policy_list);
        }
        for role in page.role_detail_list.unwrap_or_default() {
            keep_ours(&mut found, Kind::Role, role.role_name, role.role_policy_list);
        }
        Ok((found, page.marker.filter(|marker| page.is_truncated && !marker.is_empty())))
    }
}

fn keep_ours(found: &mut Vec<Found>, kind: Kind, name: Option<String>, policies: Option<Vec<PolicyDetail>>) {
    let Some(Ok(principal)) = name.map(|name| Principal::new(kind, &name)) else { return };
    for policy in policies.unwrap_or_default() {
        let name = policy.policy_name.unwrap_or_default();
        if name.starts_with(policy::PREFIX) {
            let document = decoded(&policy.policy_document.unwrap_or_default());
            found.push(Found { principal: principal.clone(), name, document });
        }
    }
}

fn person(name: &str, path: &str, tags: &[Tag], boundary: Option<&AttachedPermissionsBoundary>) -> Person {
    Person {
        name: name.to_owned(),
        path: path.to_owned(),
        grantable: tags.iter().any(|tag| (tag.key.as_str(), tag.value.as_str()) == TAG),
        boundary: boundary.and_then(|boundary| boundary.permissions_boundary_arn.clone()),
    }
}

/// IAM hands policies out percent-encoded.
fn decoded(document: &str) -> String {
    percent_decode_str(document).decode_utf8_lossy().into_owned()
}

fn or_missing<T>(answer: Result<Option<T>, Failed>) -> Result<Option<T>, Failed> {
    match answer {
        Err(error) if error.why == Why::Missing => Ok(None),
        other => other,
    }
}

fn failed<E>(operation: &'static str, error: SdkError<E>) -> Failed
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let why = match &error {
        SdkError::ConstructionFailure(_) => Why::Other,
        SdkError::ServiceError(answer) => match answer.err().code() {
            Some("NoSuchEntity") => Why::Missing,
            Some("LimitExceeded") => Why::TooLarge,
            Some("Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException") => {
                Why::Throttled
            }
            Some("AccessDenied" | "AccessDeniedException") => Why::Denied,
            Some("MalformedPolicyDocument") => Why::Malformed,
            _ if answer.raw().status().is_server_error() => Why::Silent,
            _ => Why::Other,
        },
        _ => Why::Silent,
    };
    Failed { operation, why, source: error.into() }
}
