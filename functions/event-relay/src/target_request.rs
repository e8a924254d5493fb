//! The requests of people about targets: `where` and `resend`.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::route::PipelineName;
use sekisho_domain::slack;
use sekisho_lambda::event;
use serde::Deserialize;

/// The form of a `where` request, for error messages.
const WHERE_FORM: &str = r#"{"action":"where"}, or {"action":"where","route":"shop"} for one route"#;
/// The form of a `resend` request, for error messages.
const RESEND_FORM: &str =
    r#"{"action":"resend","route":"shop","account":"333333333333"}; `region` and `pipeline` narrow the request"#;

/// A request to show which revision runs in each target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhereRequest {
    #[serde(rename = "action")]
    _action: String,
    /// The name of the only route to show, or `None` for all routes.
    #[serde(default)]
    pub(crate) route: Option<String>,
}

/// A request to send the latest order of each selected target again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResendRequest {
    #[serde(rename = "action")]
    _action: String,
    /// The name of the route that leads to the targets.
    pub(crate) route: String,
    /// The account of the targets.
    pub(crate) account: AccountId,
    /// The region of the targets, or `None` for all regions.
    #[serde(default)]
    pub(crate) region: Option<Region>,
    /// The pipeline of the targets, or `None` for all pipelines.
    #[serde(default)]
    pub(crate) pipeline: Option<PipelineName>,
}

impl WhereRequest {
    /// Parses a payload.
    ///
    /// # Errors
    /// A sentence that names the wrong field and says what to send instead.
    pub(crate) fn parse(payload: &str) -> Result<Self, String> {
        event::parse("request", payload).map_err(|reason| format!("{}; send {WHERE_FORM}", slack::shown(&reason)))
    }
}

impl ResendRequest {
    /// Parses a payload.
    ///
    /// # Errors
    /// A sentence that names the wrong field and says what to send instead.
    pub(crate) fn parse(payload: &str) -> Result<Self, String> {
        event::parse("request", payload).map_err(|reason| format!("{}; send {RESEND_FORM}", slack::shown(&reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_be_narrowed() {
        let all = WhereRequest::parse(r#"{"action":"where"}"#).unwrap();
        assert_eq!(all.route, None);
        let narrow =
            r#"{"action":"resend","route":"shop","account":"333333333333","region":"us-east-1","pipeline":"p"}"#;
        let narrow = ResendRequest::parse(narrow).unwrap();
        assert_eq!(narrow.region.unwrap().as_str(), "us-east-1");
        assert_eq!(narrow.pipeline.unwrap().as_str(), "p");
    }

    #[test]
    fn a_wrong_request_names_the_field_and_shows_the_right_form() {
        let resend = |fields: &str| ResendRequest::parse(&format!(r#"{{"action":"resend",{fields}}}"#)).unwrap_err();
        for (reason, words) in [
            (WhereRequest::parse(r#"{"action":"where","account":"1"}"#).unwrap_err(), "`account`"),
            (WhereRequest::parse(r#"{"action":"where","route":7}"#).unwrap_err(), "request.route"),
            (resend(r#""route":"shop""#), "`account`"),
            (resend(r#""account":"333333333333""#), "`route`"),
            (resend(r#""route":"shop","account":333333333333"#), "request.account"),
            (resend(r#""route":"shop","account":"33""#), "request.account"),
            (resend(r#""route":"shop","account":"333333333333","region":"tokyo""#), "request.region"),
            (resend(r#""route":"shop","account":"333333333333","target":"x""#), "`target`"),
            (resend(r#""route":"shop","route":"shop","account":"333333333333""#), "`route`"),
        ] {
            assert!(reason.contains(words) && reason.contains("send {"), "{reason} should name {words}");
        }
    }
}
