//! Requests for another account: the hub hands them on, and that account decides, records and answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use sekisho_lambda::{Environment, Failure, Invocation};
use sekisho_testing::invocation::invocation;
use serde_json::{Value, json};
use temp_access::answer::Answer;
use temp_access::aws::lambda::Hubs;
use temp_access::error::Error;
use temp_access::principal::Kind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crate::account::{Account, REVOKE, text};
use crate::doors::DOORS;

/// The account of the hub. The target is the account of [`Account`].
const HUB: &str = "222222222222";
const PLACE: &str = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aap-northeast-1%3A333333333333%3Afunction%3Atemp-access\
                     %3Ahub/invocations";
const ACCOUNTS: &str = r#"
[access.accounts]
here       = "222222222222"
moved      = "222222222222/eu-west-1"
production = "333333333333"
abroad     = "333333333333/eu-west-1"
"#;

/// What happens to an invocation of the target.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// It is carried out, but the connection breaks before the answer.
    Answer,
    /// It begins only after this time.
    Late(Duration),
    /// Lambda answers with this status and code.
    Code(u16, &'static str),
    /// The function ends with an error of Lambda's.
    Died,
}

type Sent = (HttpRequest, oneshot::Sender<Result<HttpResponse, ConnectorError>>);

/// Lambda, as the hub sees it.
#[derive(Debug, Clone)]
struct Lambda(mpsc::UnboundedSender<Sent>);

impl HttpConnector for Lambda {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, answered) = oneshot::channel();
        self.0.send((request, answer)).unwrap();
        HttpConnectorFuture::new(async { answered.await.unwrap() })
    }
}

impl HttpClient for Lambda {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The hub, and the target to which it hands requests on.
struct Two {
    hub: Account,
    target: Rc<Account>,
    /// What happens to the next invocations of the target.
    losses: Rc<RefCell<VecDeque<Loss>>>,
    /// The paths and payloads of the invocations of the target.
    seen: Rc<RefCell<Vec<(String, Value)>>>,
    count: Cell<u32>,
}

impl Two {
    /// Both accounts with this configuration. Has to be called inside a [`LocalSet`].
    fn with(config: &str) -> Self {
        let (lambda, mut calls) = mpsc::unbounded_channel::<Sent>();
        let variables = [
            ("AWS_REGION", "ap-northeast-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let environment: Environment = variables.into_iter().collect();
        let aws = sekisho_lambda::aws::load(&environment).into_builder().http_client(Lambda(lambda)).build();
        let (mut hub, mut target) = (Account::with(config), Account::with(config));
        hub.function.hubs = Hubs::new(&aws);
        hub.cloud.set_account(HUB);
        target.function.hub = Some(HUB.to_owned());
        let target = Rc::new(target);
        let losses: Rc<RefCell<VecDeque<Loss>>> = Rc::default();
        let seen: Rc<RefCell<Vec<(String, Value)>>> = Rc::default();
        let two = Self { hub, target: target.clone(), losses: losses.clone(), seen: seen.clone(), count: Cell::new(0) };
        tokio::task::spawn_local(async move {
            while let Some((request, answer)) = calls.recv().await {
                let payload = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
                let path = request.uri().split_once(".com").unwrap().1.to_owned();
                seen.borrow_mut().push((path, serde_json::from_str(&payload).unwrap()));
                let (target, loss) = (target.clone(), losses.borrow_mut().pop_front());
                tokio::task::spawn_local(async move {
                    // The hub may not wait any more.
                    let _ = answer.send(serve(&target, loss, &payload).await);
                });
            }
        });
        two
    }

    fn new() -> Self {
        Self::with(&format!("{DOORS}{ACCOUNTS}"))
    }

    /// Invokes the hub through a door.
    async fn ask(&self, alias: Option<&str>, payload: &str) -> Result<Answer, Error> {
        self.count.set(self.count.get() + 1);
        self.ask_as(&format!("of-the-hub-{}", self.count.get()), alias, payload).await
    }

    /// Invokes the hub with this request id. The answer comes before Chatbot stops waiting.
    async fn ask_as(&self, id: &str, alias: Option<&str>, payload: &str) -> Result<Answer, Error> {
        let invocation = Invocation {
            request_id: id.to_owned(),
            qualifier: alias.map(str::to_owned),
            ..invocation("temp-access", HUB, self.hub.now() + Duration::from_mins(1))
        };
        let begin = Instant::now();
        let answer = self.hub.function.handle(payload, &invocation).await;
        assert!(begin.elapsed() < Duration::from_secs(13), "{:?}", begin.elapsed());
        answer
    }
}

/// Lambda's answer to an invocation of the target's alias `hub`.
async fn serve(target: &Account, loss: Option<Loss>, payload: &str) -> Result<HttpResponse, ConnectorError> {
    match loss {
        Some(Loss::Code(status, code)) => {
            return Ok(response(status, None, &json!({"__type": code, "message": "it is so"})));
        }
        Some(Loss::Died) => {
            let error = json!({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"});
            return Ok(response(200, Some("Unhandled"), &error));
        }
        Some(Loss::Late(time)) => sleep(time).await,
        Some(Loss::Answer) | None => {}
    }
    let answer = target.invoke_at("hub", payload).await;
    if let Some(Loss::Answer) = loss {
        return Err(ConnectorError::io("the connection broke".into()));
    }
    Ok(match answer {
        Ok(answer) => response(200, None, &json!(answer)),
        Err(error) => {
            let message = format!("{error} (request r)");
            let error = json!({"errorType": error.error_type().name(), "errorMessage": message});
            response(200, Some("Unhandled"), &error)
        }
    })
}

fn response(status: u16, error: Option<&'static str>, body: &Value) -> HttpResponse {
    let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()));
    if let Some(error) = error {
        response.headers_mut().insert("x-amz-function-error", error);
    }
    response
}

fn error_type(answer: Result<Answer, Error>) -> &'static str {
    answer.unwrap_err().error_type().name()
}

const GRANT: &str = r#"{"user":"prd-user","minutes":30,"account":"production"}"#;

#[tokio::test(start_paused = true)]
async fn a_request_is_carried_out_in_the_account_that_it_names() {
    let test = async {
        let two = Two::new();
        let answer = text(two.ask(None, GRANT).await);
        assert!(answer.starts_with("End time is 2026-11-21T21:15:0"), "{answer}");
        let (path, envelope) = two.seen.borrow()[0].clone();
        assert_eq!(path, PLACE);
        let expected = json!({"version": 1, "id": "of-the-hub-1", "until": envelope["until"], "door": null,
            "request": {"user": "prd-user", "minutes": 30}});
        assert_eq!(envelope, expected);
        // The target's ledger records, its topic notifies, and the hub writes nothing.
        assert_eq!(two.target.outcomes(), ["granted"]);
        assert_eq!(two.target.decisions()[0]["door"], "#channel");
        assert_eq!(two.target.cloud.published().len(), 1);
        assert!(two.hub.function.ledger.memory.rows().is_empty() && two.hub.cloud.calls().is_empty());
        let list = text(two.ask(None, r#"{"action":"list","account":"production"}"#).await);
        assert!(list.contains("user prd-user: read-only until"), "{list}");
        let revoke = r#"{"action":"revoke","user":"prd-user","account":"production"}"#;
        assert!(text(two.ask(Some("taro"), revoke).await).contains("is ended"));
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn an_account_in_another_region_is_called_there() {
    let test = async {
        let two = Two::new();
        two.ask(None, &GRANT.replace("production", "abroad")).await.unwrap();
        let path = two.seen.borrow()[0].0.clone();
        assert_eq!(path, PLACE.replace("ap-northeast-1", "eu-west-1"));
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn the_functions_own_account_is_answered_directly() {
    let test = async {
        let two = Two::new();
        for name in ["here", "moved"] {
            let answer = text(two.ask(None, &GRANT.replace("production", name)).await);
            assert!(answer.starts_with("End time is ") && two.seen.borrow().is_empty(), "{answer}");
        }
        assert_eq!(two.hub.outcomes(), ["granted", "unchanged"]);
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn the_target_decides_for_the_door_by_its_own_configuration() {
    let test = async {
        let two = Two::new();
        let glass = r#"{"user":"prd-user","profile":"glass","reason":"fire","account":"production"}"#;
        assert_eq!(error_type(two.ask(None, glass).await), "Refused");
        assert_eq!(error_type(two.ask(Some("crew"), glass).await), "Refused");
        assert!(text(two.ask(Some("hana"), glass).await).starts_with("End time is "));
        let outcomes = two.target.outcomes();
        assert_eq!(outcomes, ["refused", "refused", "granted"]);
        assert_eq!(two.target.decisions()[2]["door"], "hana");
        // The hub knows a door that the target does not have. Only a revoke is taken there.
        let mut two = Two::new();
        let config = format!("{DOORS}{ACCOUNTS}[access.people.mio]\nmay_ask = [\"read-only\"]\n");
        let hubs = std::mem::replace(&mut two.hub, Account::with(&config)).function.hubs;
        two.hub.function.hubs = hubs;
        let error = two.ask(Some("mio"), GRANT).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Refused");
        assert!(error.to_string().contains("there is no door `mio`"), "{error}");
        let revoke = REVOKE.replace('}', r#","account":"production"}"#);
        assert!(text(two.ask(Some("mio"), &revoke).await).contains("no access"));
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_account_is_invalid_and_an_error_is_passed_on_with_its_type() {
    let test = async {
        let two = Two::new();
        let error = two.ask(None, &GRANT.replace("production", "staging")).await.unwrap_err();
        assert_eq!(error.error_type().name(), "InvalidRequest");
        assert!(error.to_string().contains("write one of abroad, here, moved, production"), "{error}");
        for (request, expected) in [
            (r#"{"user":"prd-user","minutes":481,"account":"production"}"#, "InvalidRequest"),
            (r#"{"user":"nobody","account":"production"}"#, "NotFound"),
            (r#"{"user":"stranger","account":"production"}"#, "Refused"),
            (r#"{"account":"production"}"#, "InvalidRequest"),
        ] {
            let error = two.ask(None, request).await.unwrap_err();
            assert_eq!(error.error_type().name(), expected, "{request}: {error}");
            assert!(error.to_string().ends_with("(request r)"), "{error}");
        }
        // The hub's ledger has only what the hub decided itself.
        assert_eq!((two.hub.outcomes().len(), two.target.outcomes().len()), (1, 4));
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

/// A lost answer has the same end, and one row.
#[tokio::test(start_paused = true)]
async fn a_request_whose_answer_is_lost_is_carried_out_once() {
    let test = async {
        let two = Two::new();
        two.losses.borrow_mut().extend([Loss::Answer, Loss::Answer]);
        let answer = text(two.ask(None, GRANT).await);
        let end = two.target.cloud.end(Kind::User, "prd-user", "sekisho-read-only").unwrap();
        assert!(answer.starts_with(&format!("End time is {end}")), "{answer}, {end}");
        assert_eq!(two.seen.borrow().len(), 3);
        let ids: Vec<Value> = two.seen.borrow().iter().map(|(_, envelope)| envelope["id"].clone()).collect();
        assert_eq!(ids, ["of-the-hub-1"; 3]);
        let rows = two.target.function.ledger.memory.rows();
        assert_eq!(rows.iter().filter(|(key, _)| key.pk == "grant").count(), 1);
        let row = two.target.row("user/prd-user/read-only").await.unwrap();
        assert_eq!(sekisho_domain::timestamp::seconds(row.state.end), end);
        // A retry of the same invocation of the hub is the same request, too.
        sleep(Duration::from_mins(5)).await;
        let again = text(two.ask_as("of-the-hub-1", None, GRANT).await);
        assert!(again.starts_with(&format!("End time is {end}")), "{again}, {end}");
        assert_eq!(two.target.cloud.calls().iter().filter(|call| *call == "PutUserPolicy").count(), 1);
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

/// The same for a request that waits, and for its approval.
#[tokio::test(start_paused = true)]
async fn a_request_and_an_approval_whose_answers_are_lost_are_carried_out_once() {
    let test = async {
        let two = Two::new();
        let ask = r#"{"user":"prd-user","profile":"admin","account":"production"}"#;
        two.losses.borrow_mut().push_back(Loss::Answer);
        let answer = text(two.ask(Some("hana"), ask).await);
        let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap();
        let notice = two.target.cloud.published().pop().unwrap();
        assert!(notice.contains("There, add \\\"account\\\" as in the request"), "{notice}");
        let here = two.ask(Some("taro"), &format!(r#"{{"approve":"{code}"}}"#)).await.unwrap_err().to_string();
        assert!(here.contains("A code from another account needs \"account\", too"), "{here}");
        let approve = format!(r#"{{"approve":"{code}","account":"production"}}"#);
        two.losses.borrow_mut().push_back(Loss::Late(Duration::from_mins(1)));
        let error = two.ask(Some("taro"), &approve).await.unwrap_err();
        assert!(error.to_string().contains("may have been carried out"), "{error}");
        sleep(Duration::from_mins(2)).await;
        assert!(!two.target.cloud.wrote(), "the approval came too late");
        two.losses.borrow_mut().push_back(Loss::Answer);
        let answer = text(two.ask(Some("taro"), &approve).await);
        let end = two.target.cloud.end(Kind::User, "prd-user", "sekisho-admin").unwrap();
        assert!(answer.starts_with(&format!("End time is {end}")), "{answer}, {end}");
        assert_eq!(two.target.cloud.calls().iter().filter(|call| *call == "PutUserPolicy").count(), 1);
        let count = |wanted| two.target.outcomes().iter().filter(|outcome| *outcome == wanted).count();
        assert_eq!(["granted", "refused"].map(count), [1, 1]);
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_after_the_hub_stopped_waiting() {
    let test = async {
        for late in [13, 60, 6 * 3_600] {
            let two = Two::new();
            two.losses.borrow_mut().push_back(Loss::Late(Duration::from_secs(late)));
            let error = two.ask(None, GRANT).await.unwrap_err();
            assert_eq!(error.error_type().name(), "Internal");
            assert!(error.to_string().contains("may have been carried out"), "{error}");
            sleep(Duration::from_hours(7)).await;
            assert!(!two.target.cloud.wrote(), "{late} s late");
            assert_eq!(two.target.outcomes(), ["refused"]);
            assert_eq!(two.hub.outcomes(), ["failed"]);
        }
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

/// However late the target begins, the hub answers in time, and the answer is true.
#[tokio::test(start_paused = true)]
async fn the_hub_answers_in_time_however_slow_the_target_is() {
    let test = async {
        for late in (0..14_000).step_by(500) {
            for delay in [1, 200, 900] {
                let two = Two::new();
                two.target.cloud.set_delays(vec![delay]);
                two.losses.borrow_mut().push_back(Loss::Late(Duration::from_millis(late)));
                let answer = two.ask(None, GRANT).await;
                sleep(Duration::from_mins(2)).await;
                let end = two.target.cloud.end(Kind::User, "prd-user", "sekisho-read-only");
                match (answer, end) {
                    (Ok(Answer::Text(answer)), Some(end)) => assert!(answer.contains(&end), "{answer}, {end}"),
                    (Err(error), None) => {
                        let name = error.error_type().name();
                        assert!(["Internal", "Throttled"].contains(&name), "{late} {delay}: {error}");
                    }
                    (answer, end) => panic!("{late} {delay}: {answer:?}, but the end is {end:?}"),
                }
            }
        }
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_lambda_says_whether_something_was_done() {
    let test = async {
        for (loss, expected, words) in [
            (Loss::Code(403, "AccessDeniedException"), "Refused", "HubAccountId"),
            (Loss::Code(404, "ResourceNotFoundException"), "Refused", "make hub"),
            (Loss::Code(429, "TooManyRequestsException"), "Throttled", "try again"),
            (Loss::Code(413, "RequestTooLargeException"), "Internal", "Nothing was changed"),
            (Loss::Code(500, "ServiceException"), "Internal", "may have been carried out"),
            (Loss::Died, "Internal", "Sandbox.Timedout"),
        ] {
            let two = Two::new();
            two.losses.borrow_mut().extend([loss; 3]);
            let error = two.ask(None, GRANT).await.unwrap_err();
            assert_eq!(error.error_type().name(), expected, "{loss:?}: {error}");
            assert!(error.to_string().contains(words), "{loss:?}: {error}");
            // A dry run writes nothing, also if it cannot be handed on.
            let recorded = two.hub.outcomes();
            two.losses.borrow_mut().clear();
            two.losses.borrow_mut().extend([loss; 3]);
            two.ask(None, &GRANT.replace('}', r#","dry_run":true}"#)).await.unwrap_err();
            assert_eq!(two.hub.outcomes(), recorded, "{loss:?}");
        }
    };
    Box::pin(LocalSet::new().run_until(test)).await;
}

/// The alias `hub` takes nothing but envelopes, and none without `HubAccountId`.
#[tokio::test(start_paused = true)]
async fn only_the_hub_may_hand_requests_on() {
    let envelope = json!({"version": 1, "id": "one", "until": "2026-11-21T20:45:12.000Z", "door": null,
        "request": {"user": "prd-user"}});
    let mut target = Account::with(&format!("{DOORS}{ACCOUNTS}"));
    let without = target.invoke_at("hub", &envelope.to_string()).await;
    assert_eq!(error_type(without), "Refused");
    target.function.hub = Some(HUB.to_owned());
    let with = |key: &str, value: Value| {
        let mut with = envelope.clone();
        with[key] = value;
        with
    };
    let missing = |key: &str| {
        let mut without = envelope.clone();
        without.as_object_mut().unwrap().remove(key);
        without
    };
    let sweep: Value = serde_json::from_str(crate::account::SWEEP).unwrap();
    for (payload, expected) in [
        (json!({"user": "prd-user"}), "InvalidRequest"),
        (sweep.clone(), "InvalidRequest"),
        (missing("version"), "InvalidRequest"),
        (missing("id"), "InvalidRequest"),
        (missing("until"), "InvalidRequest"),
        (missing("door"), "InvalidRequest"),
        (missing("request"), "InvalidRequest"),
        (with("door", json!("board")), "InvalidRequest"),
        (with("door", json!("hub")), "InvalidRequest"),
        (with("door", json!("gone")), "Refused"),
        (with("request", json!({"user": "prd-user", "account": "production"})), "InvalidRequest"),
        (with("request", json!({"user": "prd-user", "account": "here"})), "InvalidRequest"),
        (with("request", envelope.clone()), "InvalidRequest"),
        (with("request", sweep), "InvalidRequest"),
        (with("until", json!("2026-11-21T20:44:59.999Z")), "Refused"),
    ] {
        let answer = target.invoke_at("hub", &payload.to_string()).await;
        assert_eq!(error_type(answer), expected, "{payload}");
    }
    assert!(target.cloud.calls().is_empty(), "{:?}", target.cloud.calls());
    // A direct invocation of the function takes no envelope.
    assert_eq!(error_type(target.invoke(&envelope.to_string()).await), "InvalidRequest");
    assert!(text(target.invoke_at("hub", &envelope.to_string()).await).starts_with("End time is "));
}
