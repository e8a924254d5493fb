//! How the requests of a process reach the world: late, and with faults.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use tokio::time::sleep;

use super::cloud::Sent;
use super::jobs::BeforeJob;
use super::process::Life;
use super::witness::{Looked, Write, is_artifact};
use crate::world::s3::Sse;
use crate::world::{self, BUCKET, Fault, Request, Response, request};

#[derive(Clone)]
pub(super) struct Network {
    pub(super) life: Arc<Life>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let network = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request::read(&request);
            network.life.step().await;
            let (kills, slow) = network.fate(&request);
            if kills {
                network.life.die().await;
            }
            sleep(slow).await;
            let answer = network.answer(&request);
            network.life.step().await;
            Ok(answer.over_http(&request))
        })
    }
}

/// The key of the object that a request is about. `None` if it is about the bucket, or no request to S3.
fn key(request: &Request) -> Option<&str> {
    let (_, key) = request.path.split_once('/').filter(|_| request.service == "s3")?;
    Some(key).filter(|key| !key.is_empty())
}

impl Network {
    /// Whether the request kills the process, and how much longer than others it takes.
    fn fate(&self, request: &Request) -> (bool, Duration) {
        let mut state = self.life.cloud.state();
        let looks_at = key(request).filter(|_| request.method == "HEAD");
        let kills = looks_at.is_some() && looks_at == state.faults.killer.as_deref();
        if kills {
            state.log(&format!("{} looks at what kills it", self.life.current().request_id));
        }
        let slow = state.faults.slow.as_ref().filter(|(slow, _)| looks_at == Some(slow.as_str()));
        (kills, slow.map_or(Duration::ZERO, |(_, time)| *time))
    }

    fn answer(&self, request: &Request) -> Response {
        let internal_error = || match request.service.as_str() {
            "s3" | "s3-control" | "sns" | "sts" => Response::error(500, "InternalError", "We encountered an error."),
            _ => Response { status: 500, ..Response::json_error("InternalFailure", "an internal error") },
        };
        if let Some(refused) = self.refused_listing(request) {
            return refused;
        }
        let fault = self.fault(request);
        match fault {
            Some(Fault::SlowDown) => return Response::slow_down(),
            Some(Fault::Internal) => return internal_error(),
            Some(Fault::AnswerLost) | None => {}
        }
        let before = self.write_of(request);
        let before_job = BeforeJob::of(request, &self.life.cloud);
        let answer = self.life.cloud.world.answer(request);
        if let Some(before) = before_job {
            before.compare(&mut self.life.cloud.state(), &self.life.cloud);
        }
        self.record(request, &answer, before, fault.is_some());
        if fault.is_some() { internal_error() } else { answer }
    }

    /// The answer to a request for a part of the list that S3 refuses.
    fn refused_listing(&self, request: &Request) -> Option<Response> {
        let is_listing = matches!(request.operation.as_str(), "ListObjectsV2" | "ListObjectVersions");
        let after = request.query.get("start-after").or(request.query.get("key-marker"));
        let mut state = self.life.cloud.state();
        let unlisted = state.faults.unlisted_after.as_ref().filter(|_| is_listing)?;
        let after = after.map_or("", String::as_str);
        // The function lists its own reports to put a manifest together.
        if after < unlisted.as_str() || !is_artifact(after) || request.query.contains_key("max-keys") {
            return None;
        }
        state.count("refused listings");
        Some(Response::error(403, "AccessDenied", "Access Denied"))
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut state = self.life.cloud.state();
        let (throttled, failed, lost) = (state.faults.throttled, state.faults.failed, state.faults.lost);
        let fault = if request.service == "s3" && state.per_mille(throttled) {
            state.count("throttled requests");
            Fault::SlowDown
        } else if state.per_mille(failed) {
            Fault::Internal
        } else if state.per_mille(lost) {
            state.count("answers that were lost");
            Fault::AnswerLost
        } else {
            return None;
        };
        Some(fault)
    }

    /// What a request to repair an object is about to do. `None` for other requests.
    fn write_of(&self, request: &Request) -> Option<Write> {
        let is_copy = request.operation == "CopyObject";
        let is_repair = is_copy || request.operation == "UpdateObjectEncryption";
        let key = key(request).filter(|_| is_repair)?;
        let world = self.life.cloud.world.state();
        let version = request.query.get("versionId").map(String::as_str).filter(|_| !is_copy);
        let found = world.bucket(BUCKET).find(key, version)?;
        Some(Write { key: key.to_owned(), version: found.id.clone(), is_copy, was_right: is_right(&found.sse) })
    }

    fn record(&self, request: &Request, answer: &Response, write: Option<Write>, is_lost: bool) {
        match (request.operation.as_str(), key(request)) {
            ("HeadObject" | "GetObject", Some(key)) if answer.status < 500 => {
                let version = request.query.get("versionId").cloned();
                let mut current = self.life.current();
                current.ahead.remove(key);
                self.life.cloud.state().witness.looked(Looked::now(&current.request_id, key, version));
            }
            ("ListObjectsV2", None) if !request.query.contains_key("max-keys") => self.listed(answer),
            ("SendMessage", _) => self.sent(),
            _ => {}
        }
        if let Some(write) = write.filter(|_| answer.status == 200) {
            self.repaired(write, is_lost);
        }
    }

    fn sent(&self) {
        let hops = self.life.current().hops + 1;
        let queued = std::mem::take(&mut self.life.cloud.world.state().queue);
        let sent = queued.into_iter().map(|(body, delay)| Sent { body, delay: Duration::from_secs(delay), hops });
        self.life.cloud.state().sent.extend(sent);
    }

    fn repaired(&self, write: Write, is_lost: bool) {
        let request_id = self.life.current().request_id.clone();
        let mut state = self.life.cloud.state();
        state.count("repairs");
        state.log(&format!("{request_id} repairs {} {}", write.key, write.version));
        if write.is_copy {
            state.copied.push(write.key.clone());
        }
        state.witness.repaired(write, &request_id, is_lost);
    }

    /// Remembers which objects a page shows. An invocation must not list far ahead of its checks. An incremental sweep
    /// may leave out objects whose time of writing the page shows.
    fn listed(&self, answer: &Response) {
        let mut current = self.life.current();
        let objects = answer.body.split("<Key>").skip(1).filter(|rest| !rest.contains("<LastModified>"));
        let keys = objects.filter_map(|rest| rest.split("</Key>").next());
        let keys = keys.map(|key| request::decode(&key.replace('+', " ")));
        current.ahead.extend(keys.filter(|key| is_artifact(key)));
        let ahead = current.ahead.len();
        let request_id = current.request_id.clone();
        drop(current);
        self.life.cloud.state().witness.listed_ahead(ahead, &request_id);
    }
}

/// Whether an object is under the right key.
pub(super) fn is_right(sse: &Sse) -> bool {
    match sse {
        Sse::Kms(arn) | Sse::Dsse(arn) => *arn == world::key("right"),
        Sse::S3 | Sse::Customer => false,
    }
}
