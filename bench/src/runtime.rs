//! Lambda's Runtime API, for one process at a time.

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

/// Longer than any function may run.
const PATIENCE: Duration = Duration::from_mins(15);

/// One event for the function.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its payload.
    pub(crate) payload: String,
    /// Lambda's request id.
    pub(crate) request: String,
    /// The function, as Lambda names it.
    pub(crate) function: String,
}

/// What the process did, and when.
#[derive(Debug)]
enum Deed {
    /// It asks for an event.
    Asks(Instant, oneshot::Sender<Event>),
    /// It answers one; an error is one of the function's or of its start.
    Answers(Instant, Result<String, String>),
}

/// The API of one process.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) address: SocketAddr,
    deeds: mpsc::UnboundedReceiver<Deed>,
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
        let (tell, deeds) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let tell = tell.clone();
                tokio::spawn(async move {
                    let serve = service_fn(|request| answer(request, &tell));
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Ok(Self { address, deeds, server })
    }

    async fn deed(&mut self) -> Result<Deed, Failure> {
        timeout(PATIENCE, self.deeds.recv()).await?.ok_or_else(|| "the Runtime API has ended".into())
    }

    /// Waits until the process asks for an event: it then has nothing else to do.
    pub(crate) async fn asked(&mut self) -> Result<(Instant, oneshot::Sender<Event>), Failure> {
        match self.deed().await? {
            Deed::Asks(at, event) => Ok((at, event)),
            Deed::Answers(_, answer) => Err(format!("an answer without an event: {answer:?}").into()),
        }
    }

    /// Waits for the answer.
    pub(crate) async fn answered(&mut self) -> Result<(Instant, String), Failure> {
        match self.deed().await? {
            Deed::Answers(at, Ok(answer)) => Ok((at, answer)),
            Deed::Answers(_, Err(error)) => Err(format!("the function failed: {error}").into()),
            Deed::Asks(..) => Err("the function asks for an event while it has one".into()),
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    tell: &mpsc::UnboundedSender<Deed>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET && path.ends_with("/invocation/next") {
        let (give, event) = oneshot::channel();
        tell.send(Deed::Asks(Instant::now(), give))?;
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
    tell.send(Deed::Answers(at, if path.ends_with("/response") { Ok(body) } else { Err(body) }))?;
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Full::default())?)
}
