//! A local replacement for the parts of AWS that the functions call. It answers over HTTPS and keeps state: a read
//! returns what was written before.
//!
//! On AWS each service has its own host, so here each service has its own port. As on AWS, a function therefore needs
//! one connection for each service. An operation that is not implemented here gets an error, which ends the
//! measurement.

mod dynamodb;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{CipherSuite, ServerConfig};

use crate::Failure;
use crate::events::{ARTIFACTS, KEY, PIPELINE_ACCOUNT, REGION};

/// The services, named as in the SDK's variables `AWS_ENDPOINT_URL_…`.
pub(crate) const SERVICES: [&str; 12] =
    ["CODECOMMIT", "CODEPIPELINE", "DYNAMODB", "ECR", "EVENTBRIDGE", "IAM", "KMS", "LAMBDA", "S3", "SNS", "SQS", "STS"];

/// The branches of every repository.
const BRANCHES: [&str; 3] = ["main", "release/1", "release/2"];

/// The state of all services.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The ledger's items, by partition and sort key.
    pub(crate) ledger: BTreeMap<(String, String), Map<String, Value>>,
    /// Inline policies of the one user, by name.
    pub(crate) policies: BTreeMap<String, String>,
    /// The commit to which every branch points, or the digest of the image to which every tag points.
    pub(crate) head: String,
    /// Number of objects in the artifact bucket.
    pub(crate) objects: usize,
    /// The messages of the queue of sweeps that nobody has received.
    pub(crate) queue: VecDeque<String>,
    /// Number of CodeCommit repositories, which are named `shop-1`, `shop-2`, ….
    pub(crate) repositories: usize,
    /// The time that each answer takes, as a network would make it take.
    pub(crate) latency: Duration,
    /// Number of requests, by service and operation.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Number of connections, by service.
    pub(crate) connections: BTreeMap<String, u64>,
    /// The amounts of units, other than requests, for which AWS charges.
    pub(crate) units: Units,
}

/// Amounts of units, other than requests, for which AWS charges.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Units {
    /// DynamoDB's write units of 1 KB.
    write: usize,
    /// DynamoDB's read units of 4 KB.
    read: usize,
    /// Entries of EventBridge's PutEvents.
    entries: usize,
}

/// The running services and their state.
#[derive(Debug)]
pub(crate) struct Aws {
    state: Arc<Mutex<State>>,
    /// The services' endpoints, by the names of the SDK's environment variables.
    pub(crate) endpoints: BTreeMap<String, String>,
}

impl Aws {
    /// Listens on a free port for each service, with the given certificate and its key.
    pub(crate) async fn start(certificate: &str, key: &str, host: &str) -> Result<Self, Failure> {
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
        let mut provider = ring::default_provider();
        // Like AWS, the server prefers AES-128 to AES-256, whatever order the client sends.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut tls = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        tls.ignore_client_order = true;
        let tls = TlsAcceptor::from(Arc::new(tls));
        let state = Arc::new(Mutex::new(State::default()));
        let mut endpoints = BTreeMap::new();
        for service in SERVICES {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let port = listener.local_addr()?.port();
            endpoints.insert(format!("AWS_ENDPOINT_URL_{service}"), format!("https://{host}:{port}"));
            tokio::spawn(listen(service, listener, tls.clone(), Arc::clone(&state)));
        }
        Ok(Self { state, endpoints })
    }

    /// The state of all services. Read or set the state only while no function runs.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(service: &'static str, listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        *lock(&state).connections.entry(service.to_owned()).or_default() += 1;
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let serve = service_fn(|request| serve(service, request, &state));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
        });
    }
}

/// The answer to a request.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn ok(body: impl Into<String>) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into() }
}

fn refused(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, ..ok(body) }
}

async fn serve(
    service: &'static str,
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let operation = operation(service, &head.method, head.uri.query().unwrap_or_default(), &head.headers, &body);
    let (answer, latency) = answer(service, &operation, &head, &body, &mut lock(state))?;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status)?);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response.header("x-amzn-requestid", "1").body(Full::from(answer.body))?)
}

/// Counts the request and answers it. Also returns how long the answer takes.
fn answer(
    service: &str,
    operation: &str,
    head: &Parts,
    body: &Bytes,
    state: &mut State,
) -> Result<(Answer, Duration), Failure> {
    *state.calls.entry(format!("{}:{operation}", service.to_lowercase())).or_default() += 1;
    let answer = match service {
        "DYNAMODB" => dynamodb::answer(state, operation, &serde_json::from_slice(body)?),
        "IAM" => iam(state, operation, &form(body)),
        "S3" => s3(state, operation, head.uri.path(), head.uri.query().unwrap_or_default()),
        // What temp-access answers in another account.
        "LAMBDA" => ok(r#""End time is 2026-11-29T03:00:00Z""#),
        "SNS" => ok("<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"),
        _ => json_service(state, service, operation, &serde_json::from_slice(body).unwrap_or_default()),
    };
    Ok((answer, state.latency))
}

fn operation(service: &str, method: &Method, query: &str, headers: &HeaderMap, body: &[u8]) -> String {
    match service {
        "IAM" | "SNS" | "STS" => form(body).remove("Action").unwrap_or_default(),
        "LAMBDA" => "Invoke".to_owned(),
        "S3" if method == Method::HEAD => "HeadObject".to_owned(),
        "S3" if query.contains("list-type=2") => "ListObjectsV2".to_owned(),
        "S3" => {
            let has = |name: &str| query.split('&').any(|part| part.trim_end_matches('=') == name);
            let of_bucket = [
                ("encryption", "GetBucketEncryption"),
                ("policy", "GetBucketPolicy"),
                ("publicAccessBlock", "GetPublicAccessBlock"),
            ];
            of_bucket.iter().find(|(part, _)| has(part)).map_or("GetObject", |(_, name)| name).to_owned()
        }
        _ => {
            let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
            target.rsplit('.').next().unwrap_or_default().to_owned()
        }
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        let _ = if byte.is_ascii_alphanumeric() {
            write!(escaped, "{}", char::from(byte))
        } else {
            write!(escaped, "%{byte:02X}")
        };
        escaped
    })
}

// ---- IAM ----

fn iam(state: &mut State, operation: &str, request: &BTreeMap<String, String>) -> Answer {
    let given = |name: &str| request.get(name).cloned().unwrap_or_default();
    let (user, policy) = (given("UserName"), given("PolicyName"));
    let result = match operation {
        "GetUser" => format!(
            "<User><Path>/</Path><UserName>{user}</UserName><UserId>AIDAEXAMPLE</UserId>\
             <Arn>arn:aws:iam::333333333333:user/{user}</Arn><CreateDate>2026-11-21T00:00:00Z</CreateDate>\
             <PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType>\
             <PermissionsBoundaryArn>arn:aws:iam::333333333333:policy/sekisho-access-boundary</PermissionsBoundaryArn>\
             </PermissionsBoundary>\
             <Tags><member><Key>sekisho:access</Key><Value>grantable</Value></member></Tags></User>"
        ),
        "ListUserPolicies" => {
            let names: Vec<&str> = state.policies.keys().map(String::as_str).collect();
            let names = if names.is_empty() {
                String::new()
            } else {
                format!("<member>{}</member>", names.join("</member><member>"))
            };
            format!("<IsTruncated>false</IsTruncated><PolicyNames>{names}</PolicyNames>")
        }
        "PutUserPolicy" => {
            state.policies.insert(policy, given("PolicyDocument"));
            String::new()
        }
        "GetUserPolicy" => {
            let Some(document) = state.policies.get(&policy) else {
                let error = "<Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>none</Message></Error>";
                return refused(404, format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"));
            };
            format!(
                "<UserName>{user}</UserName><PolicyName>{policy}</PolicyName><PolicyDocument>{}</PolicyDocument>",
                escaped(document)
            )
        }
        other => return unsupported("IAM", other),
    };
    ok(format!("<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"))
}

// ---- S3 ----

const BUCKET_POLICY: &str = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*",
    "Condition":{"Bool":{"aws:SecureTransport":"false"}}}}"#;
const PUBLIC_ACCESS_BLOCK: &str = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
    <IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>\
    <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";

fn s3(state: &State, operation: &str, path: &str, query: &str) -> Answer {
    let headers = || {
        vec![
            ("ETag", "\"b1946ac92492d2347c6235b4d2611184\"".to_owned()),
            ("Last-Modified", "Sat, 21 Nov 2026 12:00:00 GMT".to_owned()),
            ("x-amz-version-id", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e".to_owned()),
            ("x-amz-server-side-encryption", "aws:kms".to_owned()),
            ("x-amz-server-side-encryption-aws-kms-key-id", KEY.to_owned()),
            ("x-amz-server-side-encryption-bucket-key-enabled", "true".to_owned()),
        ]
    };
    match operation {
        "HeadObject" => Answer { headers: [headers(), vec![("Content-Length", "5".to_owned())]].concat(), ..ok("") },
        "GetObject" if path.trim_matches('/').contains('/') => Answer {
            headers: [headers(), vec![("Content-Range", "bytes 0-0/5".to_owned())]].concat(),
            ..refused(206, "h")
        },
        "GetBucketEncryption" => ok(format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
             <SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{KEY}</KMSMasterKeyID>\
             </ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>\
             </ServerSideEncryptionConfiguration>"
        )),
        "GetBucketPolicy" => ok(BUCKET_POLICY),
        "GetPublicAccessBlock" => ok(PUBLIC_ACCESS_BLOCK),
        "ListObjectsV2" => ok(listing(state.objects, query)),
        other => unsupported("S3", other),
    }
}

/// A page of up to 1,000 keys after `start-after`. Keys consist of `shop/` and a number, so no key must be escaped.
fn listing(objects: usize, query: &str) -> String {
    let given =
        |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v);
    let after = given("continuation-token").or_else(|| given("start-after")).map(unescaped).unwrap_or_default();
    let (mut first, mut beyond) = (0, objects);
    while first < beyond {
        let middle = usize::midpoint(first, beyond);
        if format!("shop/{middle:09}") <= after { first = middle + 1 } else { beyond = middle }
    }
    let end = objects.min(first + 1000);
    let mut xml = String::from("<ListBucketResult><EncodingType>url</EncodingType>");
    let _ = write!(xml, "<IsTruncated>{}</IsTruncated><KeyCount>{}</KeyCount>", end < objects, end - first);
    for number in first..end {
        let _ = write!(
            xml,
            "<Contents><Key>shop/{number:09}</Key><LastModified>2026-11-21T12:00:00.000Z</LastModified>\
             <ETag>&quot;b1946ac92492d2347c6235b4d2611184&quot;</ETag><Size>5</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    if end < objects {
        let _ = write!(xml, "<NextContinuationToken>shop/{:09}</NextContinuationToken>", end - 1);
    }
    xml + "</ListBucketResult>"
}

// ---- services with a JSON protocol ----

fn json_service(state: &mut State, service: &str, operation: &str, request: &Value) -> Answer {
    let answer = match operation {
        "GetBranch" => json!({"branch": {"branchName": request["branchName"], "commitId": state.head}}),
        "GetFolder" => json!({"commitId": state.head, "folderPath": "", "files": [], "subFolders": []}),
        "ListBranches" => json!({"branches": BRANCHES}),
        "ListRepositories" => {
            let name =
                |number| json!({"repositoryName": format!("shop-{number}"), "repositoryId": format!("id-{number}")});
            json!({"repositories": (1..=state.repositories).map(name).collect::<Vec<_>>()})
        }
        "GetDifferences" => json!({"differences": [{
            "changeType": "M",
            "beforeBlob": {"blobId": state.head, "path": "api/template.yaml", "mode": "100644"},
            "afterBlob": {"blobId": state.head, "path": "api/template.yaml", "mode": "100644"},
        }]}),
        "DescribeImages" => json!({"imageDetails": [{
            "repositoryName": request["repositoryName"],
            "imageDigest": state.head,
            "imageTags": [request["imageIds"][0]["imageTag"]],
            "imagePushedAt": 1_795_262_400,
            "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactMediaType": "application/vnd.oci.image.config.v1+json",
            "imageStatus": "ACTIVE",
        }]}),
        "PutEvents" => {
            let taken = request["Entries"].as_array().map_or(0, Vec::len);
            state.units.entries += taken;
            let entry = json!({"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"});
            json!({"FailedEntryCount": 0, "Entries": vec![entry; taken]})
        }
        "SendMessage" => {
            state.queue.extend(request["MessageBody"].as_str().map(str::to_owned));
            json!({"MessageId": "5fea7756-0ea4-451a-a703-a558b933e274"})
        }
        "StartPipelineExecution" => json!({"pipelineExecutionId": "12345678-1234-1234-1234-123456789012"}),
        "ListPipelines" => json!({"pipelines": [{"name": "shop", "version": 1}]}),
        "GetPipeline" => json!({"pipeline": {
            "name": "shop",
            "roleArn": format!("arn:aws:iam::{PIPELINE_ACCOUNT}:role/sekisho-pipeline-{REGION}"),
            "artifactStore": {"type": "S3", "location": ARTIFACTS, "encryptionKey": {"id": KEY, "type": "KMS"}},
            "stages": [],
            "version": 1,
        }}),
        "DescribeKey" => json!({"KeyMetadata": {
            "KeyId": KEY.rsplit('/').next(),
            "Arn": KEY,
            "Enabled": true,
            "KeyState": "Enabled",
            "KeyManager": "CUSTOMER",
        }}),
        other => return unsupported(service, other),
    };
    ok(answer.to_string())
}

fn unsupported(service: &str, operation: &str) -> Answer {
    eprintln!("{service} got the operation `{operation}`, which the benchmark does not support: add it to aws.rs");
    refused(400, format!("{{\"__type\":\"Unsupported\",\"message\":\"{service} {operation}\"}}"))
}
