//! The requests that the SDKs send, and the answers that the simulated services return.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;

use crate::world::s3;

/// A request that the function sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) service: String,
    /// The operation's name, such as `HeadObject`.
    pub(crate) operation: String,
    pub(crate) method: String,
    /// The path, decoded and without the leading slash.
    pub(crate) path: String,
    /// The decoded parameters of the query.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// Whether the operation has this name, or the path ends with it.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.operation == name || self.path.ends_with(name)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The answer of a service.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// The answer to a request as the SDK gets it.
    pub(crate) fn over_http(self, request: &Request) -> HttpResponse {
        let body = if request.method == "HEAD" { SdkBody::empty() } else { SdkBody::from(self.body) };
        let mut response = HttpResponse::new(self.status.try_into().unwrap(), body);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// An error answer in the XML format of S3.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status).with("content-type", "application/xml").body(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>0A49CE4060975EAC</RequestId></Error>"
        ))
    }

    /// S3's answer to too many requests.
    pub(crate) fn slow_down() -> Self {
        Self::error(503, "SlowDown", "Please reduce your request rate.")
    }

    /// An error answer in the format of the services that use JSON.
    pub(crate) fn json_error(code: &str, message: &str) -> Self {
        Self::new(400).body(serde_json::json!({"__type": code, "message": message}).to_string())
    }
}

/// Reads a request of the SDK.
pub(crate) fn read(request: &HttpRequest) -> Request {
    let uri = request.uri();
    let (_, rest) = uri.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // The host names of S3 Control begin with the account.
    let mut labels = host.split('.');
    let service = labels.find(|label| !label.bytes().all(|byte| byte.is_ascii_digit())).unwrap().to_owned();
    let headers: BTreeMap<String, String> =
        request.headers().iter().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut request = Request {
        operation: String::new(),
        method: request.method().to_owned(),
        path: decode(path),
        query: form(query),
        body: request.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default(),
        headers,
        service,
    };
    request.operation = match request.service.as_str() {
        "s3" => s3::operation(&request).to_owned(),
        "s3-control" => (if request.method == "POST" { "CreateJob" } else { "DescribeJob" }).to_owned(),
        _ => match request.header("x-amz-target") {
            Some(target) => target.rsplit('.').next().unwrap().to_owned(),
            None => form(&request.body).remove("Action").unwrap_or_else(|| request.path.clone()),
        },
    };
    request
}

pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

pub(crate) fn form(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(&name.replace('+', " ")), decode(&value.replace('+', " "))))
        .collect()
}
