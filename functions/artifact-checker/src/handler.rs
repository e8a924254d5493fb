//! Reads what comes in, has it checked, and tells what came of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::retry::RetryConfig;
use sekisho_domain::artifacts::Artifacts;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::Decision;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::LEDGER_TABLE;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::Level;
use sekisho_lambda::{Environment, ErrorType, Failure, Invocation, log, metrics};
use sekisho_ledger::Ledger;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use crate::answer::{Refusal, Unanswered};
use crate::check::{self, Asked, Check};
use crate::consumer::Reader;
use crate::event::{self, Input, Order, Written};
use crate::faults::{Faults, Untold};
use crate::key::KeyArn;
use crate::kms::Keys;
use crate::pipelines::{self, Origins};
use crate::right_key::{self, BucketKey, Named, Right, Store};
use crate::s3::S3;
use crate::sweep::{self, Report, Sweep, Swept};
use crate::verdict::Outcome;
use crate::{consumer, faults, itself, notice};

/// The name under which decisions are kept.
pub const FUNCTION: &str = "artifact-checker";

/// Names the account's artifact bucket.
pub const ARTIFACT_BUCKET: &str = "ARTIFACT_BUCKET";
/// The full ARN of the key that is right for it.
pub const ARTIFACT_KEY_ARN: &str = "ARTIFACT_KEY_ARN";
/// The topic that findings go to.
pub const NOTICE_TOPIC_ARN: &str = "NOTICE_TOPIC_ARN";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

/// How long what is known of pipelines and buckets is used again.
const FRESH: Duration = Duration::from_mins(5);
/// A scheduled sweep of another bucket is begun here only while so much time is left.
const WORTHWHILE: Duration = Duration::from_mins(2);
/// Time that is kept to write down what was decided.
const RESERVE: Duration = Duration::from_secs(20);

/// Why an invocation failed. What a retry can mend is tried again by Lambda.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Configuration or environment.
    #[error("{0}")]
    Misconfigured(#[from] Misconfigured),
    /// Not a request.
    #[error("{0}")]
    InvalidRequest(String),
    /// A request for what is not ours.
    #[error("{0}")]
    Refused(String),
    /// An object could not be checked.
    #[error("{0}")]
    Check(#[from] check::Error),
    /// A service did not answer.
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] sekisho_ledger::Error),
    /// A sweep can't go on.
    #[error("{0}")]
    Sweep(#[from] sweep::Error),
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::Refused(_) => ErrorType::Refused,
            Self::Check(check::Error::Unanswered(unanswered)) | Self::Unanswered(unanswered)
                if unanswered.throttled =>
            {
                ErrorType::Throttled
            }
            Self::Check(check::Error::Ledger(error)) | Self::Ledger(error)
                if matches!(error, sekisho_ledger::Error::Unavailable { throttled: true, .. }) =>
            {
                ErrorType::Throttled
            }
            Self::Check(_) | Self::Sweep(_) | Self::Unanswered(_) | Self::Ledger(_) => ErrorType::Internal,
        }
    }
}

/// The clients of the services that it asks.
#[derive(Debug)]
pub struct Clients {
    /// S3, which tries again by itself.
    pub s3: aws_sdk_s3::Client,
    /// S3, which does not: a sweep sees each refusal and slows down.
    pub s3_once: Later<aws_sdk_s3::Client>,
    /// KMS.
    pub kms: Later<aws_sdk_kms::Client>,
    /// CodePipeline.
    pub codepipeline: Later<aws_sdk_codepipeline::Client>,
    /// STS.
    pub sts: Later<aws_sdk_sts::Client>,
    /// Lambda.
    pub lambda: Later<aws_sdk_lambda::Client>,
    /// SNS.
    pub sns: Later<aws_sdk_sns::Client>,
}

impl Clients {
    /// All of one configuration; `path_style` where S3 is not AWS's.
    #[must_use]
    pub fn new(aws: &SdkConfig, path_style: bool) -> Self {
        let s3 = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(path_style)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let once = s3.clone().retry_config(RetryConfig::disabled());
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            s3_once: Later::new(Box::new(move || aws_sdk_s3::Client::from_conf(once.build()))),
            kms: later(aws, aws_sdk_kms::Client::new),
            codepipeline: later(aws, aws_sdk_codepipeline::Client::new),
            sts: later(aws, aws_sdk_sts::Client::new),
            lambda: later(aws, aws_sdk_lambda::Client::new),
            sns: later(aws, aws_sdk_sns::Client::new),
        }
    }
}

/// The function.
#[derive(Debug)]
pub struct Checker<L> {
    /// The ledger.
    pub ledger: L,
    /// The `[artifacts]` section.
    pub config: Artifacts,
    /// The account's artifact bucket.
    pub bucket: String,
    /// The key that is right for it.
    pub key: KeyArn,
    /// The topic that findings go to.
    pub topic: String,
    /// The services.
    pub clients: Clients,
    /// The clock.
    pub now: fn() -> OffsetDateTime,
    /// What is known of pipelines and buckets.
    pub known: Known,
}

/// What is known from earlier invocations, for [`FRESH`].
#[derive(Debug, Default)]
pub struct Known {
    stores: RefCell<Option<(OffsetDateTime, Rc<Vec<Store>>)>>,
    rights: RefCell<HashMap<String, (OffsetDateTime, Judged)>>,
}

/// The right key of a bucket, and what is wrong with how it is said.
type Judged = (Right, Vec<Decision<Outcome>>);

/// What the function returns.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// In the order in which they were taken; of a sweep the first hundred findings, and its sum.
    pub decisions: Vec<Decision<Outcome>>,
    /// What sweeps found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<Report>,
}

impl Checker<Ledger> {
    /// From the function's environment.
    ///
    /// # Errors
    /// Where a variable or the `[artifacts]` section is missing or wrong.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        // An endpoint of one's own rarely answers to `<bucket>.<host>`.
        let path_style = [ENDPOINT, S3_ENDPOINT].iter().any(|name| environment.optional(name).is_some());
        Ok(Self {
            ledger: Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?),
            config: environment.configuration()?.artifacts()?,
            bucket: environment.required(ARTIFACT_BUCKET)?.to_owned(),
            key: KeyArn::of_environment(ARTIFACT_KEY_ARN, environment.required(ARTIFACT_KEY_ARN)?)?,
            topic: environment.required(NOTICE_TOPIC_ARN)?.to_owned(),
            clients: Clients::new(aws, path_style),
            now: sekisho_lambda::now,
            known: Known::default(),
        })
    }
}

impl<L: sekisho_ledger::Store> Checker<L> {
    /// Answers one invocation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let keys = Keys::new(&self.clients.kms);
        let this = Run { checker: self, invocation, keys: &keys };
        match event::read(payload, &invocation.account) {
            Input::Invalid(what) => Err(Error::InvalidRequest(what)),
            Input::Ignored(why) => this.only(vec![Decision::new(Outcome::Ignored, why)]).await,
            Input::Unreadable(why) => this.only(vec![Decision::new(Outcome::Unknown, why)]).await,
            Input::Written(written) => {
                let decisions = Box::pin(this.written(&written)).await?;
                this.only(decisions).await
            }
            Input::Sweep(order) => {
                let mut answer = Answer { decisions: Vec::new(), sweeps: Vec::new() };
                let stores =
                    if order.bucket == self.bucket { this.stores_if_shown().await } else { this.stores().await? };
                if order.bucket != self.bucket && !stores.iter().any(|store| store.bucket == order.bucket) {
                    return Err(Error::Refused(format!(
                        "bucket {} is not {}, and no pipeline of account {} in {} keeps artifacts in it: sweep one of those",
                        order.bucket, self.bucket, invocation.account, invocation.region
                    )));
                }
                Box::pin(this.sweep(&order, &stores, &mut answer)).await?;
                Ok(answer)
            }
            Input::Scheduled => Box::pin(this.scheduled()).await,
        }
    }
}

/// One invocation.
struct Run<'a, L> {
    checker: &'a Checker<L>,
    invocation: &'a Invocation,
    keys: &'a Keys<'a>,
}

impl<L: sekisho_ledger::Store> Run<'_, L> {
    fn now(&self) -> OffsetDateTime {
        (self.checker.now)()
    }

    async fn only(&self, decisions: Vec<Decision<Outcome>>) -> Result<Answer, Error> {
        let checker = self.checker;
        let (decisions, untold) = self.faults().new_ones(decisions).await;
        log::decisions(&self.invocation.request_id, &decisions);
        metrics::count_outcomes(FUNCTION, &decisions);
        self.record(&decisions).await?;
        let findings: Vec<_> = decisions.iter().filter(|decision| decision.outcome.is_finding()).collect();
        notice::tell(&checker.clients.sns, &checker.topic, &self.title("artifacts"), &findings, 0).await?;
        self.faults().are_told(untold).await;
        Ok(Answer { decisions, sweeps: Vec::new() })
    }

    fn title(&self, what: &str) -> String {
        format!("Sekisho: {what} in account {}, {}", self.invocation.account, self.invocation.region)
    }

    async fn written(&self, written: &Written) -> Result<Vec<Decision<Outcome>>, Error> {
        let decided = |outcome, reason: String| {
            Decision::new(outcome, reason)
                .about("bucket", &written.target.bucket)
                .about("object", &written.target.key)
                .about("event", &written.event)
        };
        let bucket = &written.target.bucket;
        let s3 = S3::new(self.checker.clients.s3.clone(), self.invocation.account.as_str());
        if *bucket == self.checker.bucket {
            // Its key was deployed with this function. What pipelines say of it is a sweep's to tell, or looked up where
            // something is wrong: an account may have hundreds of them.
            let right = &self.checker.key;
            let decision = self.object(&s3, written, right).await?;
            if matches!(decision.outcome, Outcome::Compliant | Outcome::Gone) {
                return Ok(vec![decision]);
            }
            let stores = self.stores_if_shown().await;
            let mut decisions = self.right_key(&s3, bucket, &stores).await.map_or_else(
                |error| {
                    self.warn("what is said of the bucket's key can't be read", &error);
                    Vec::new()
                },
                |(_, findings)| findings,
            );
            decisions.push(self.explained(decision, &stores, bucket, right).await);
            return Ok(decisions);
        }
        let stores = self.stores().await?;
        if !stores.iter().any(|store| store.bucket == *bucket) {
            let reason = "no pipeline of this account keeps artifacts in the bucket".to_owned();
            return Ok(vec![decided(Outcome::Ignored, reason)]);
        }
        let (right, mut decisions) = self.right_key(&s3, bucket, &stores).await?;
        decisions.push(match right {
            Right::Key(right) => {
                let decision = self.object(&s3, written, &right).await?;
                self.explained(decision, &stores, bucket, &right).await
            }
            Right::Unclear(why) => {
                decided(Outcome::Unknown, format!("which key is right for its bucket can't be told: {why}"))
            }
        });
        Ok(decisions)
    }

    /// Checks the object that an event told of.
    async fn object(&self, s3: &S3, written: &Written, right: &KeyArn) -> Result<Decision<Outcome>, Error> {
        let reader = self.reader().await?;
        let patience = self.invocation.deadline - RESERVE;
        let check = self.check(s3, &reader, false, true, patience);
        let asked = Asked { target: written.target.clone(), latest: true, prove: true };
        let decision = Box::pin(check.check_written(&asked, right)).await?.decision;
        Ok(decision.about("event", &written.event).about_some("writer", written.writer.as_deref()))
    }

    /// With who wrote it and why, where it is under another account's key.
    async fn explained(
        &self,
        decision: Decision<Outcome>,
        stores: &[Store],
        bucket: &str,
        right: &KeyArn,
    ) -> Decision<Outcome> {
        if decision.outcome != Outcome::ForeignKey {
            return decision;
        }
        Origins::new(&self.checker.clients.codepipeline, stores, bucket).explain(decision, right).await
    }

    fn warn(&self, message: &str, error: &Unanswered) {
        let fields = json!({"requestId": self.invocation.request_id, "error": chain(error)});
        log::line(Level::Warn, message, &fields);
    }

    async fn scheduled(&self) -> Result<Answer, Error> {
        let mut answer = Answer { decisions: Vec::new(), sweeps: Vec::new() };
        let stores = self.stores_if_shown().await;
        let buckets: BTreeSet<&str> = stores.iter().map(|store| store.bucket.as_str()).collect();
        let others = buckets.into_iter().filter(|bucket| *bucket != self.checker.bucket);
        for bucket in std::iter::once(self.checker.bucket.as_str()).chain(others) {
            let order = Order::of(bucket);
            if self.invocation.time_left(self.now()) < WORTHWHILE {
                itself::invoke(&self.checker.clients.lambda, &self.invocation.function, order.payload()).await?;
            } else {
                self.sweep(&order, &stores, &mut answer).await?;
            }
        }
        Ok(answer)
    }

    async fn sweep(&self, order: &Order, stores: &[Store], answer: &mut Answer) -> Result<(), Error> {
        let checker = self.checker;
        let s3 = S3::new(checker.clients.s3_once.clone(), self.invocation.account.as_str());
        let asking = S3::new(checker.clients.s3.clone(), self.invocation.account.as_str());
        checker.known.rights.borrow_mut().remove(&order.bucket);
        if order.bucket != checker.bucket
            && let Some(closed) = self.closed(&asking, &order.bucket).await?
        {
            let mut decisions = vec![closed];
            if order.dry_run {
                self.record(&decisions).await?;
            } else {
                let untold;
                (decisions, untold) = self.faults().new_ones(decisions).await;
                let title = self.title(&format!("sweep of {}", order.bucket));
                self.found(&title, &decisions, BTreeMap::new(), 0, untold).await?;
            }
            answer.decisions.append(&mut decisions);
            return Ok(());
        }
        let (right, mut decisions) = self.right_key(&asking, &order.bucket, stores).await?;
        let mut report = None;
        if let Right::Key(right) = &right {
            let reader = self.reader().await?;
            let sweep = Sweep {
                check: self.check(&s3, &reader, order.dry_run, false, self.now()),
                origins: &Origins::new(&checker.clients.codepipeline, stores, &order.bucket),
                right,
                order,
                request_id: &self.invocation.request_id,
                deadline: self.invocation.deadline,
            };
            match Box::pin(sweep.run()).await? {
                Swept::Ignored(why) => {
                    decisions.push(Decision::new(Outcome::Ignored, why).about("bucket", &order.bucket));
                }
                Swept::Report(swept, findings) => {
                    decisions.extend(findings);
                    report = Some(swept);
                }
            }
        }
        let title = self.title(&format!("sweep of {}", order.bucket));
        match report {
            None if order.dry_run => self.record(&decisions).await?,
            None => {
                let untold;
                (decisions, untold) = self.faults().new_ones(decisions).await;
                self.found(&title, &decisions, BTreeMap::new(), 0, untold).await?;
            }
            Some(report) => {
                log::line(Level::Info, "sweep", &json!({"requestId": self.invocation.request_id, "sweep": report}));
                let mut untold = Vec::new();
                if report.complete && !order.dry_run {
                    (decisions, untold) = self.faults().new_ones(decisions).await;
                }
                let findings = decisions.iter().any(|decision| decision.outcome.is_finding());
                decisions.insert(0, report.sum(findings));
                if !report.complete {
                    self.record(decisions.get(..1).unwrap_or_default()).await?;
                    let on = order.going_on(&report.sweep);
                    itself::invoke(&checker.clients.lambda, &self.invocation.function, on.payload()).await?;
                } else if order.dry_run {
                    self.record(&decisions).await?;
                } else {
                    let counts = report.outcomes.iter().map(|(outcome, count)| (outcome.name().to_owned(), *count));
                    self.found(&title, &decisions, counts.collect(), report.more_findings, untold).await?;
                }
                answer.sweeps.push(*report);
            }
        }
        answer.decisions.append(&mut decisions);
        Ok(())
    }

    /// Tells of a sweep that is done. The ledger and the log have it when SNS does not take it; a retry would sweep anew.
    async fn found(
        &self,
        title: &str,
        decisions: &[Decision<Outcome>],
        mut counts: BTreeMap<String, u64>,
        more: u64,
        untold: Vec<Untold>,
    ) -> Result<(), Error> {
        self.record(decisions).await?;
        let of_bucket = |decision: &&Decision<Outcome>| !decision.concerns.contains_key("object");
        for decision in decisions.iter().filter(of_bucket).filter(|decision| !decision.concerns.contains_key("sweep")) {
            log::decisions(&self.invocation.request_id, std::slice::from_ref(decision));
            *counts.entry(decision.outcome.name().to_owned()).or_default() += 1;
        }
        metrics::count(FUNCTION, &counts);
        let findings: Vec<_> = decisions.iter().filter(|decision| decision.outcome.is_finding()).collect();
        let clients = &self.checker.clients;
        if let Err(error) = notice::tell(&clients.sns, &self.checker.topic, title, &findings, more).await {
            let fields = json!({"requestId": self.invocation.request_id, "error": chain(&error)});
            log::line(Level::Error, "the findings could not be sent", &fields);
        } else {
            self.faults().are_told(untold).await;
        }
        Ok(())
    }

    fn faults(&self) -> Faults<'_, L> {
        let (checker, request_id) = (self.checker, self.invocation.request_id.as_str());
        Faults { ledger: &checker.ledger, own_bucket: &checker.bucket, request_id, now: self.now() }
    }

    /// The finding that this function may not look at a bucket, as it may at no other than its own where nobody has given
    /// its role leave; none where it may.
    async fn closed(&self, s3: &S3, bucket: &str) -> Result<Option<Decision<Outcome>>, Unanswered> {
        match s3.list(bucket, false, None).await {
            Err(Refusal::Said(said)) if said.status == 403 => {
                let Invocation { partition, region, .. } = self.invocation;
                Ok(Some(faults::closed(bucket, partition, region.as_str(), &said)))
            }
            Ok(_) | Err(Refusal::Said(_)) => Ok(None),
            Err(Refusal::Later(unanswered)) => Err(unanswered),
        }
    }

    async fn record(&self, decisions: &[Decision<Outcome>]) -> Result<(), Error> {
        let recorded = self.checker.ledger.record(FUNCTION, &self.invocation.request_id, self.now(), decisions).await;
        recorded.map_err(Error::from)
    }

    fn check<'c>(
        &'c self,
        s3: &'c S3,
        reader: &'c Reader,
        dry_run: bool,
        follow_latest: bool,
        patience: OffsetDateTime,
    ) -> Check<'c, L> {
        Check {
            s3,
            keys: self.keys,
            reader,
            ledger: &self.checker.ledger,
            account: self.invocation.account.as_str(),
            repair: self.checker.config.repair,
            dry_run,
            follow_latest,
            holder: self.invocation.request_id.clone(),
            now: self.checker.now,
            patience,
        }
    }

    async fn reader(&self) -> Result<Reader, Unanswered> {
        let clients = &self.checker.clients;
        let role = self.checker.config.consumer_role.as_deref();
        consumer::reader(&clients.sts, &clients.s3, role, self.invocation.account.as_str()).await
    }

    async fn stores(&self) -> Result<Rc<Vec<Store>>, Unanswered> {
        if let Some((read, stores)) = &*self.checker.known.stores.borrow()
            && self.now() - *read < FRESH
        {
            return Ok(Rc::clone(stores));
        }
        let client = &self.checker.clients.codepipeline;
        let stores = Rc::new(pipelines::stores(client, self.invocation.region.as_str()).await?);
        *self.checker.known.stores.borrow_mut() = Some((self.now(), Rc::clone(&stores)));
        Ok(stores)
    }

    /// For the bucket that was deployed with this function, whose key is known whatever pipelines say.
    async fn stores_if_shown(&self) -> Rc<Vec<Store>> {
        self.stores().await.unwrap_or_else(|error| {
            self.warn("the pipelines can't be read: their keys are not checked", &error);
            Rc::default()
        })
    }

    /// The right key of a bucket, and what is wrong with how it is said.
    async fn right_key(
        &self,
        s3: &S3,
        bucket: &str,
        stores: &[Store],
    ) -> Result<(Right, Vec<Decision<Outcome>>), Unanswered> {
        if let Some((read, judged)) = self.checker.known.rights.borrow().get(bucket)
            && self.now() - *read < FRESH
        {
            return Ok(judged.clone());
        }
        let default = match s3.default_key(bucket).await {
            Ok(None) => BucketKey::OfS3,
            Ok(Some(name)) => {
                let key = self.keys.describe(&name).await?;
                BucketKey::Key(name, key)
            }
            Err(Refusal::Said(said)) => BucketKey::Hidden(said.to_string()),
            Err(Refusal::Later(unanswered)) => return Err(unanswered),
        };
        let mut named = Vec::new();
        for store in stores.iter().filter(|store| store.bucket == bucket) {
            let key = match &store.key {
                Some(name) => Some(self.keys.describe(name).await?),
                None => None,
            };
            named.push(Named { store: store.clone(), key });
        }
        let configured = (bucket == self.checker.bucket).then_some(&self.checker.key);
        let judged = right_key::decide(bucket, configured, &named, &default);
        self.checker.known.rights.borrow_mut().insert(bucket.to_owned(), (self.now(), judged.clone()));
        Ok(judged)
    }
}
