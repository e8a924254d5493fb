//! IAM: users, roles and their inline policies.

mod versions;

use std::fmt;

use aws_sdk_iam::Client;
use aws_sdk_iam::config::retry::RetryConfig;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::{AttachedPermissionsBoundary, EntityType, PolicyDetail, Tag};
use percent_encoding::percent_decode_str;
use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use sekisho_lambda::service_error;
use tokio::time::{Duration, sleep};

use crate::policy;
use crate::principal::{Kind, Principal};

/// The tag of a principal that may get access.
const TAG: (&str, &str) = ("sekisho:access", "grantable");

/// The number of users and roles that one page has. IAM allows at most 1,000; its default is 100.
const PAGE_SIZE: i32 = 1_000;

/// The pauses between the attempts to put a policy or to write a version.
const PUT_PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(900)];

/// The kind of failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such user, role or policy.
    NotFound,
    /// All inline policies together have too many characters.
    TooLarge,
    /// There were too many requests.
    Throttled,
    /// The function's role or an organization's policy does not allow the call.
    Denied,
    /// IAM does not accept the policy's text.
    Malformed,
    /// IAM refused the call for another reason; nothing was changed.
    Other,
    /// There was no answer, or an answer that does not show whether the call took effect.
    Unanswered,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("IAM's {operation} {}{}", .kind, remedy(.operation, *.kind))]
pub struct IamError {
    /// The name of the call, such as `PutUserPolicy`.
    pub operation: &'static str,
    /// The kind of failure of the last attempt.
    pub kind: ErrorKind,
    /// Whether IAM left an earlier attempt of the same call unanswered.
    is_doubtful: bool,
    #[source]
    source: Box<ServiceError>,
}

impl IamError {
    /// The error of a call that IAM did not answer before the deadline.
    pub(crate) fn unanswered(operation: &'static str) -> Self {
        let source = ServiceError::unexpected(operation, "no answer in time");
        Self { operation, kind: ErrorKind::Unanswered, is_doubtful: true, source: Box::new(source) }
    }

    /// The error about `sekisho-window` while another invocation writes it, or while IAM does not show its state.
    pub(crate) fn busy(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = ServiceError::unexpected("iam:CreatePolicyVersion", cause);
        Self {
            operation: "CreatePolicyVersion",
            kind: ErrorKind::Throttled,
            is_doubtful: false,
            source: Box::new(source),
        }
    }

    /// The same error, about a `sekisho-window` that is full.
    pub(crate) fn full(cause: &'static str) -> Self {
        Self { kind: ErrorKind::TooLarge, ..Self::busy(cause) }
    }

    /// The same error, after an earlier call of the same change took effect.
    pub(crate) fn in_doubt(self) -> Self {
        Self { is_doubtful: true, ..self }
    }

    /// Whether the call may have taken effect, although it failed.
    pub(crate) fn may_have_taken_effect(&self) -> bool {
        self.is_doubtful || self.kind == ErrorKind::Unanswered
    }

    fn new<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let source = ServiceError::new(format!("iam:{operation}"), error);
        let kind = match (source.code(), source.kind) {
            (Some("NoSuchEntity"), _) => ErrorKind::NotFound,
            (Some("LimitExceeded"), _) => ErrorKind::TooLarge,
            (Some("AccessDenied" | "AccessDeniedException"), _) => ErrorKind::Denied,
            (Some("MalformedPolicyDocument"), _) => ErrorKind::Malformed,
            (Some(_), service_error::Kind::Throttled) => ErrorKind::Throttled,
            // IAM sends a code with every refusal, so a server error without a code does not show whether the call took
            // effect.
            (None, service_error::Kind::Throttled) | (_, service_error::Kind::Unavailable) => ErrorKind::Unanswered,
            (_, service_error::Kind::Refused) => ErrorKind::Other,
        };
        Self { operation, kind, is_doubtful: false, source: Box::new(source) }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "finds no such user, role or policy any more",
            Self::TooLarge => "reports that the policies are too large in total: remove others, or wait for their end",
            Self::Throttled => "is throttled: try again in a minute",
            Self::Denied => {
                "is denied to this function: its role acts only on principals with the tag and the boundary"
            }
            Self::Malformed => "does not accept the policy: correct the profile in the configuration",
            Self::Other => "failed: the function's log has the reason",
            Self::Unanswered => "did not answer",
        })
    }
}

/// The last sentence of the message, which says what to do if a delete was denied. The principal had the tag and the
/// boundary when the policy was put, so one of them was probably removed later.
fn remedy(operation: &str, kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::Denied && operation.starts_with("Delete") {
        ". Put the tag and the boundary back and revoke again, or delete the policy by hand"
    } else {
        ""
    }
}

/// The facts about a user or role that a grant checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PrincipalDetails {
    /// The name in IAM's own spelling. IAM ignores case when it looks up a name.
    pub(crate) name: String,
    /// The path, such as `/` or `/aws-reserved/sso.amazonaws.com/`.
    pub(crate) path: String,
    /// Whether the principal has the tag `sekisho:access=grantable`.
    pub(crate) is_grantable: bool,
    /// ARN of the permissions boundary.
    pub(crate) boundary: Option<String>,
}

/// An inline policy whose name begins with `sekisho-`, and the principal that has the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPolicy {
    pub(crate) principal: Principal,
    /// The policy's whole name.
    pub(crate) name: String,
    /// The policy's JSON text.
    pub(crate) document: String,
}

/// A page of the list of all policies whose names begin with `sekisho-`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) policies: Vec<NamedPolicy>,
    /// The marker with which the next page begins; `None` on the last page.
    pub(crate) next: Option<String>,
}

/// IAM of this account. It knows no people of Identity Center.
#[derive(Debug)]
pub struct Iam {
    client: Later<Client>,
}

impl Iam {
    /// Calls IAM through this client.
    #[must_use]
    pub fn new(client: Later<Client>) -> Self {
        Self { client }
    }

    /// The details of a user or role; `None` if it does not exist.
    pub(crate) async fn describe(&self, principal: &Principal) -> Result<Option<PrincipalDetails>, IamError> {
        let name = principal.name();
        let answer = match principal.kind() {
            Kind::User => match self.client.get_user().user_name(name).send().await {
                Ok(answer) => Ok(answer
                    .user
                    .map(|user| details(&user.user_name, &user.path, user.tags(), user.permissions_boundary()))),
                Err(error) => Err(IamError::new("GetUser", error)),
            },
            Kind::Role => match self.client.get_role().role_name(name).send().await {
                Ok(answer) => Ok(answer
                    .role
                    .map(|role| details(&role.role_name, &role.path, role.tags(), role.permissions_boundary()))),
                Err(error) => Err(IamError::new("GetRole", error)),
            },
            Kind::Person => Ok(None),
        };
        found(answer)
    }

    /// The names of all inline policies of a principal.
    pub(crate) async fn policy_names(&self, principal: &Principal) -> Result<Vec<String>, IamError> {
        let name = principal.name();
        match principal.kind() {
            Kind::User => {
                let pages = self.client.list_user_policies().user_name(name).into_paginator().items().send();
                pages.collect::<Result<_, _>>().await.map_err(|error| IamError::new("ListUserPolicies", error))
            }
            Kind::Role => {
                let pages = self.client.list_role_policies().role_name(name).into_paginator().items().send();
                pages.collect::<Result<_, _>>().await.map_err(|error| IamError::new("ListRolePolicies", error))
            }
            Kind::Person => Ok(Vec::new()),
        }
    }

    /// The text of an inline policy; `None` if it does not exist.
    pub(crate) async fn policy(&self, principal: &Principal, policy: &str) -> Result<Option<String>, IamError> {
        let name = principal.name();
        let answer = match principal.kind() {
            Kind::User => match self.client.get_user_policy().user_name(name).policy_name(policy).send().await {
                Ok(answer) => Ok(Some(decoded(&answer.policy_document))),
                Err(error) => Err(IamError::new("GetUserPolicy", error)),
            },
            Kind::Role => match self.client.get_role_policy().role_name(name).policy_name(policy).send().await {
                Ok(answer) => Ok(Some(decoded(&answer.policy_document))),
                Err(error) => Err(IamError::new("GetRolePolicy", error)),
            },
            Kind::Person => Ok(None),
        };
        found(answer)
    }

    /// Puts an inline policy. An existing policy of the same name is replaced.
    pub(crate) async fn put(&self, principal: &Principal, policy: &str, document: &str) -> Result<(), IamError> {
        attempts(async || self.put_once(principal, policy, document).await).await
    }

    async fn put_once(&self, principal: &Principal, policy: &str, document: &str) -> Result<(), IamError> {
        let name = principal.name();
        let once = aws_sdk_iam::Config::builder().retry_config(RetryConfig::disabled());
        match principal.kind() {
            Kind::User => {
                let put = self.client.put_user_policy().user_name(name).policy_name(policy).policy_document(document);
                let sent = put.customize().config_override(once).send().await;
                sent.map(drop).map_err(|error| IamError::new("PutUserPolicy", error))
            }
            Kind::Role => {
                let put = self.client.put_role_policy().role_name(name).policy_name(policy).policy_document(document);
                let sent = put.customize().config_override(once).send().await;
                sent.map(drop).map_err(|error| IamError::new("PutRolePolicy", error))
            }
            Kind::Person => Err(IamError::busy("people have no inline policies")),
        }
    }

    /// Deletes an inline policy. Returns whether the policy existed.
    pub(crate) async fn delete(&self, principal: &Principal, policy: &str) -> Result<bool, IamError> {
        let name = principal.name();
        let deleted = match principal.kind() {
            Kind::User => {
                let delete = self.client.delete_user_policy().user_name(name).policy_name(policy);
                delete.send().await.map(|_| Some(())).map_err(|error| IamError::new("DeleteUserPolicy", error))
            }
            Kind::Role => {
                let delete = self.client.delete_role_policy().role_name(name).policy_name(policy);
                delete.send().await.map(|_| Some(())).map_err(|error| IamError::new("DeleteRolePolicy", error))
            }
            Kind::Person => Ok(None),
        };
        Ok(found(deleted)?.is_some())
    }

    /// One page of the users and roles, with those of their inline policies whose names begin with `sekisho-`. `marker`
    /// is `None` for the first page.
    pub(crate) async fn page_of_named_policies(&self, marker: Option<String>) -> Result<Page, IamError> {
        let details = self.client.get_account_authorization_details().max_items(PAGE_SIZE).set_marker(marker);
        let page = details.filter(EntityType::User).filter(EntityType::Role).send().await;
        let page = page.map_err(|error| IamError::new("GetAccountAuthorizationDetails", error))?;
        let users = page.user_detail_list.unwrap_or_default().into_iter();
        let users = users.flat_map(|user| named_policies(Kind::User, user.user_name, user.user_policy_list));
        let roles = page.role_detail_list.unwrap_or_default().into_iter();
        let roles = roles.flat_map(|role| named_policies(Kind::Role, role.role_name, role.role_policy_list));
        let next = page.marker.filter(|marker| page.is_truncated && !marker.is_empty());
        Ok(Page { policies: users.chain(roles).collect(), next })
    }
}

/// Makes several attempts of a write. The SDK would not show whether an earlier attempt was left unanswered, and may
/// thus have taken effect.
async fn attempts<T>(write_once: impl AsyncFn() -> Result<T, IamError>) -> Result<T, IamError> {
    let mut is_doubtful = false;
    for pause in PUT_PAUSES {
        match write_once().await {
            Err(error) if matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unanswered) => {
                is_doubtful |= error.kind == ErrorKind::Unanswered;
                sleep(pause).await;
            }
            Err(error) => return Err(IamError { is_doubtful, ..error }),
            Ok(done) => return Ok(done),
        }
    }
    write_once().await.map_err(|error| IamError { is_doubtful, ..error })
}

fn named_policies(kind: Kind, name: Option<String>, policies: Option<Vec<PolicyDetail>>) -> Vec<NamedPolicy> {
    let Some(Ok(principal)) = name.map(|name| Principal::new(kind, &name)) else { return Vec::new() };
    let policies = policies.unwrap_or_default().into_iter().filter_map(|policy| {
        let name = policy.policy_name.filter(|name| name.starts_with(policy::PREFIX))?;
        let document = decoded(&policy.policy_document.unwrap_or_default());
        Some(NamedPolicy { principal: principal.clone(), name, document })
    });
    policies.collect()
}

fn details(name: &str, path: &str, tags: &[Tag], boundary: Option<&AttachedPermissionsBoundary>) -> PrincipalDetails {
    PrincipalDetails {
        name: name.to_owned(),
        path: path.to_owned(),
        is_grantable: tags.iter().any(|tag| (tag.key.as_str(), tag.value.as_str()) == TAG),
        boundary: boundary.and_then(|boundary| boundary.permissions_boundary_arn.clone()),
    }
}

/// Decodes a policy, which IAM returns percent-encoded.
fn decoded(document: &str) -> String {
    percent_decode_str(document).decode_utf8_lossy().into_owned()
}

/// Returns `None` instead of an error if there is no such user, role or policy.
fn found<T>(answer: Result<Option<T>, IamError>) -> Result<Option<T>, IamError> {
    match answer {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    #[test]
    fn each_answer_has_one_kind() {
        let cases = [
            (404, Some("NoSuchEntity"), ErrorKind::NotFound),
            (409, Some("LimitExceeded"), ErrorKind::TooLarge),
            (400, Some("Throttling"), ErrorKind::Throttled),
            (403, Some("AccessDenied"), ErrorKind::Denied),
            (400, Some("MalformedPolicyDocument"), ErrorKind::Malformed),
            (400, Some("UnmodifiableEntity"), ErrorKind::Other),
            (500, Some("ServiceFailure"), ErrorKind::Unanswered),
            (503, None, ErrorKind::Unanswered),
        ];
        for (status, code, kind) in cases {
            let mut metadata = ErrorMetadata::builder();
            if let Some(code) = code {
                metadata = metadata.code(code);
            }
            let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
            let error = SdkError::service_error(metadata.build(), response);
            assert_eq!(IamError::new("PutUserPolicy", error).kind, kind, "{status} {code:?}");
        }
        let timeout: SdkError<ErrorMetadata> = SdkError::timeout_error("late");
        assert_eq!(IamError::new("PutUserPolicy", timeout).kind, ErrorKind::Unanswered);
    }
}
