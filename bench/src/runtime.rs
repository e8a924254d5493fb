//! Lambda's Runtime API. Each measured process has its own instance.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Failure;

/// How long the benchmark waits for the process. Lambda allows no function to run longer than this.
const PATIENCE: Duration = Duration::from_mins(15);

/// One event for the function.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) payload: String,
    /// The request id that Lambda would assign.
    pub(crate) request: String,
    /// The function's ARN.
    pub(crate) function: String,
}

/// What the process did, and when.
#[derive(Debug)]
enum Activity {
    /// The process requested its next event. The sender passes the event to the process.
    Idle(Instant, oneshot::Sender<Event>),
    /// The process answered an event. `Err` holds an error of the function or of its start.
    Answer(Instant, Result<String, String>),
}

/// The Runtime API of one process.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) address: SocketAddr,
    activities: mpsc::UnboundedReceiver<Activity>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Runtime {
    /// Listens on a free port.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (report, activities) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let report = report.clone();
                tokio::spawn(async move {
                    let serve = service_fn(|request| answer(request, &report));
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Ok(Self { address, activities, server })
    }

    async fn activity(&mut self) -> Result<Activity, Failure> {
        timeout(PATIENCE, self.activities.recv()).await?.ok_or_else(|| "the Runtime API has ended".into())
    }

    /// Waits until the process requests an event. From then on, the process is idle.
    pub(crate) async fn idle(&mut self) -> Result<(Instant, oneshot::Sender<Event>), Failure> {
        match self.activity().await? {
            Activity::Idle(at, event) => Ok((at, event)),
            Activity::Answer(_, answer) => Err(format!("the function answered without an event: {answer:?}").into()),
        }
    }

    /// Waits until the process answers its current event.
    pub(crate) async fn answered(&mut self) -> Result<(Instant, String), Failure> {
        match self.activity().await? {
            Activity::Answer(at, Ok(answer)) => Ok((at, answer)),
            Activity::Answer(_, Err(error)) => Err(format!("the function failed: {error}").into()),
            Activity::Idle(..) => Err("the function asked for an event before it answered the last one".into()),
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    report: &mpsc::UnboundedSender<Activity>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET && path.ends_with("/invocation/next") {
        let (give, event) = oneshot::channel();
        report.send(Activity::Idle(Instant::now(), give))?;
        let event = event.await?;
        #[expect(clippy::disallowed_methods, reason = "the function's deadline is a time of day")]
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH)? + PATIENCE;
        return Ok(Response::builder()
            .header("content-type", "application/json")
            .header("Lambda-Runtime-Aws-Request-Id", event.request)
            .header("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string())
            .header("Lambda-Runtime-Invoked-Function-Arn", event.function)
            .header("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
            .body(Full::from(event.payload))?);
    }
    let body = request.into_body().collect().await?.to_bytes();
    let at = Instant::now();
    let body = String::from_utf8_lossy(&body).into_owned();
    report.send(Activity::Answer(at, if path.ends_with("/response") { Ok(body) } else { Err(body) }))?;
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Full::default())?)
}
