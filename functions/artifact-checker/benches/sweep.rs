//! The speed of a sweep, compared with the speed of its stub of S3 and with a loop in boto3 with 64 threads. The stub
//! answers on loopback after 10 ms. Run `cargo bench -p artifact-checker --bench sweep`.
//!
//! The stub, the sweep and boto3 share the machine, so compare rates only within one run.

#![allow(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by a panic, and reads its environment"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_checker::{Cache, Checker, Clients, KeyArn, Rates, Settings};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use sekisho_domain::artifacts::{Artifacts, Repair};
use sekisho_lambda::Invocation;
use sekisho_lambda::aws::{BehaviorVersion, Region};
use sekisho_ledger::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LATENCY: Duration = Duration::from_millis(10);
const KEY: &str = "arn:aws:kms:ap-northeast-1:222222222222:key/right";
const THREADS: usize = 64;
/// The number of objects for boto3. Its rate does not change after some thousand objects, and a hundred thousand
/// objects would take minutes.
const BOTO3_OBJECTS: usize = 20_000;

fn main() {
    let objects: usize = std::env::var("OBJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let port = serve();
    let stub = stub_rate(port, objects.min(50_000));
    println!("the stub can answer        {stub:>8.0} HEADs a second (raw sockets, 256 connections)");
    let (small, _) = sweep(port, objects / 10, "warm");
    let before = peak_memory();
    let (rate, requests) = sweep(port, objects, "all");
    let after = peak_memory();
    println!(
        "the sweep of {objects:>6} objects {rate:>8.0} objects a second ({:.0} % of the stub's), {requests} read",
        100.0 * rate / stub
    );
    println!("the sweep of {:>6} objects {small:>8.0} objects a second", objects / 10);
    println!("peak memory                {before:>8} kB at a tenth of the objects, {after} kB at all (stub included)");
    let boto3 = boto3(port, objects.min(BOTO3_OBJECTS));
    println!("boto3 with {THREADS} threads      {boto3:>8.0} objects a second");
    println!("the sweep is               {:>8.1} times as fast", rate / boto3);
}

/// Sweeps a bucket with this many objects. Returns the rate in objects per second and the number of read objects.
fn sweep(port: u16, objects: usize, id: &str) -> (f64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let aws = sekisho_lambda::aws::SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("ap-northeast-1"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "AKID", "secret", None, None, "bench",
            )))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .build();
        let bucket = format!("bucket-{objects}");
        let checker = Checker {
            ledger: Memory::default(),
            settings: Settings {
                artifacts: Artifacts {
                    repair: Repair::Report,
                    consumer_role: None,
                    retry_stage: false,
                    confirm_above: 100_000,
                    buckets: BTreeMap::new(),
                },
                bucket: bucket.clone(),
                key: KeyArn::parse(KEY).unwrap(),
                // The benchmark finds out what the function's own work costs.
                rates: Rates::UNLIMITED,
                alone: usize::MAX,
                manifest_part: usize::MAX,
                queue_url: String::new(),
                concurrency: 1,
            },
            clients: Clients::new(&aws, true, "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices"),
            clock: sekisho_lambda::now,
            cache: Cache::default(),
        };
        let deadline = sekisho_lambda::now() + Duration::from_mins(15);
        let invocation = sekisho_testing::invocation::invocation("sekisho-artifact-checker", "222222222222", deadline);
        let invocation = Invocation { request_id: id.to_owned(), ..invocation };
        let start = Instant::now();
        let payload = format!(r#"{{"action":"sweep","bucket":"{bucket}"}}"#);
        let answer = Box::pin(checker.handle(&payload, &invocation)).await.unwrap();
        let took = start.elapsed();
        let report = &answer.sweeps[0];
        assert!(report.complete);
        assert_eq!(report.objects, objects as u64);
        assert_eq!(report.outcomes.len(), 1, "{:?}", report.outcomes);
        (objects as f64 / took.as_secs_f64(), report.proven)
    })
}

/// Measures how many requests per second the stub answers if the client has no overhead.
fn stub_rate(port: u16, requests: usize) -> f64 {
    const CONNECTIONS: usize = 256;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let each = requests / CONNECTIONS;
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                tokio::spawn(async move {
                    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let mut buffer = [0; 2048];
                    for _ in 0..each {
                        socket.write_all(b"HEAD /bucket/k HTTP/1.1\r\nhost: s3\r\n\r\n").await.unwrap();
                        assert!(socket.read(&mut buffer).await.unwrap() > 0);
                    }
                })
            })
            .collect();
        for connection in connections {
            connection.await.unwrap();
        }
        (each * CONNECTIONS) as f64 / start.elapsed().as_secs_f64()
    })
}

fn boto3(port: u16, objects: usize) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var("PYTHON").map_or_else(|_| root.join(".venv/bin/python"), PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/boto3_loop.py");
    let output = Command::new(&python)
        .arg(script)
        .args([format!("http://127.0.0.1:{port}"), format!("bucket-{objects}"), THREADS.to_string()])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run `make setup` first", python.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Returns the peak memory of this process so far, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Starts a stub of S3 and KMS in a thread of its own, and returns its port. A bucket named `bucket-10` has 10 objects.
fn serve() -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::spawn(connection(socket));
            }
        });
    });
    port.recv().unwrap()
}

async fn connection(mut socket: TcpStream) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse::<usize>().unwrap());
        while buffer.len() < end + length {
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        buffer.drain(..end + length);
        tokio::time::sleep(LATENCY).await;
        if socket.write_all(answer(head.lines().next().unwrap()).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(line: &str) -> String {
    let mut parts = line.split(' ');
    let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let encrypted = format!(
        "etag: \"e\"\r\nx-amz-version-id: v\r\nx-amz-server-side-encryption: aws:kms\r\n\
         x-amz-server-side-encryption-aws-kms-key-id: {KEY}\r\n"
    );
    let (status, headers, body) = match method {
        "head" => return format!("HTTP/1.1 200 OK\r\n{encrypted}content-length: 1\r\n\r\n"),
        "post" => {
            let metadata = format!(r#"{{"KeyMetadata":{{"KeyId":"right","Arn":"{KEY}","KeyState":"Enabled"}}}}"#);
            ("200 OK", String::new(), if path == "/" { metadata } else { String::new() })
        }
        _ if query.contains("encryption") => (
            "200 OK",
            String::new(),
            format!(
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                 <SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{KEY}</KMSMasterKeyID>\
                 </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
            ),
        ),
        _ if query.contains("publicaccessblock") => (
            "200 OK",
            String::new(),
            "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
             </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true\
             </RestrictPublicBuckets></PublicAccessBlockConfiguration>"
                .into(),
        ),
        _ if query.contains("policy") => (
            "200 OK",
            String::new(),
            r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"Bool":
                {"aws:SecureTransport":"false"}}}}"#
                .into(),
        ),
        _ if query.contains("list-type") => {
            let objects: usize = path.trim_matches('/').rsplit('-').next().unwrap().parse().unwrap();
            let after = query.split('&').find_map(|pair| pair.strip_prefix("start-after=shop%2f"));
            let first = after.map_or(0, |last| last.parse::<usize>().unwrap() + 1);
            let last = (first + 1000).min(objects);
            let mut body = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", last < objects);
            for n in first..last {
                body.push_str(&format!("<Contents><Key>shop/{n:08}</Key><Size>1</Size></Contents>"));
            }
            ("200 OK", "content-type: application/xml\r\n".into(), body + "</ListBucketResult>")
        }
        _ => ("206 Partial Content", encrypted, "x".into()),
    };
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}
