//! The HTTP side of the test account, which answers the SDK's requests to IAM, SNS and Session Manager.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::sleep;

use super::cloud::{Cloud, Fault};

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
        let cloud = self.clone();
        let target = request.headers().get("x-amz-target").map(str::to_owned);
        HttpConnectorFuture::new(async move {
            Ok(match target {
                Some(target) => answer_on_sessions(&cloud, target.rsplit('.').next().unwrap(), &body).await,
                None => answer(&cloud, &body).await,
            })
        })
    }
}

impl HttpClient for Cloud {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

async fn answer(cloud: &Cloud, body: &str) -> HttpResponse {
    const UNANSWERED: (u16, &str) = (503, "ServiceUnavailable");
    let fields = form(body);
    let action = &fields["Action"];
    let (fault, delay) = cloud.begin_call(action);
    // Half of the delay passes before the call takes effect and half after, so an answer may be outdated on arrival.
    sleep(Duration::from_millis(delay / 2)).await;
    let answer = match fault {
        None => cloud.act(&fields, false),
        Some(Fault::Stale) => cloud.act(&fields, true),
        Some(Fault::Code(code, status)) => Err((status, code)),
        Some(Fault::Lost) => {
            sleep(Duration::from_mins(10)).await;
            Err(UNANSWERED)
        }
        Some(Fault::DoneLate) => {
            let (cloud, fields) = (cloud.clone(), fields.clone());
            tokio::spawn(async move {
                sleep(Duration::from_secs(5)).await;
                let _ = cloud.act(&fields, false);
            });
            sleep(Duration::from_mins(10)).await;
            Err(UNANSWERED)
        }
        Some(Fault::DoneUnanswered) => {
            let _ = cloud.act(&fields, false);
            sleep(Duration::from_mins(10)).await;
            Err(UNANSWERED)
        }
    };
    sleep(Duration::from_millis(delay - delay / 2)).await;
    let (status, xml) = match answer {
        Ok(result) => (200, format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>")),
        Err((status, code)) => {
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>it is so</Message></Error>");
            (status, format!("<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>"))
        }
    };
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(xml))
}

/// Answers a call to Session Manager, whose protocol is JSON.
async fn answer_on_sessions(cloud: &Cloud, action: &str, body: &str) -> HttpResponse {
    let (fault, delay) = cloud.begin_call(action);
    sleep(Duration::from_millis(delay)).await;
    let (status, answer) = match fault {
        Some(Fault::Code(code, status)) => (status, json!({"__type": code, "message": "it is so"})),
        Some(Fault::Lost | Fault::DoneUnanswered | Fault::DoneLate) => {
            sleep(Duration::from_mins(10)).await;
            (503, json!({}))
        }
        Some(Fault::Stale) | None if action == "GetUserId" => {
            cloud.people(|people| people.find(&serde_json::from_str(body).unwrap()))
        }
        Some(Fault::Stale) | None => (200, cloud.act_on_sessions(action, &serde_json::from_str(body).unwrap())),
    };
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer.to_string()))
}

/// The fields of a form, decoded.
fn form(body: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}
