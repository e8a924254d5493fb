//! The AWS configuration that all clients of a function share.
//!
//! Put together here and not by `aws-config`: what that looks for in files, in the metadata of instances and containers
//! and at STS is not there on Lambda, and takes time and size at every start.

use std::cell::LazyCell;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

pub use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
pub use aws_types::SdkConfig;
pub use aws_types::region::Region;

use crate::environment::Environment;

const REGION: &str = "AWS_REGION";
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
/// Name other authorities than ours, as OpenSSL reads them.
const OTHER_AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The roots of Amazon Trust Services, by which all endpoints of these partitions are certified:
/// <https://www.amazontrust.com/repository/>. The earliest ends in 2037.
const AMAZON: &str = include_str!("amazon-trust-services.pem");

/// Credentials and region as Lambda sets them, endpoints as every SDK honours them, TLS by ring, one connection pool.
///
/// Each call is tried three times, for at most 5 s each; what must be tried longer says so where it does.
#[must_use]
pub fn load(environment: &Environment) -> SdkConfig {
    let region = environment.optional(REGION);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .build();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(region.map(|region| Region::new(region.to_owned())))
        .http_client(SharedHttpClient::new(Unhurried(https(environment))))
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .service_config(Services(environment.clone()));
    config.set_endpoint_url(environment.optional(ENDPOINT).map(str::to_owned));
    config.set_credentials_provider(credentials(environment));
    config.build()
}

fn https(environment: &Environment) -> SharedHttpClient {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    match TlsContext::builder().with_trust_store(trusted(environment)).build() {
        Ok(tls) => http.tls_context(tls).build_https(),
        // A context of a trust store alone always builds; without it the SDK trusts the system's authorities.
        Err(_) => http.build_https(),
    }
}

/// The SDK's client, but for what that does for each client of a service that is made: to build a connector, of which it reads
/// the authorities, and to throw it away. The one that is used is built with the first call.
#[derive(Debug)]
struct Unhurried(SharedHttpClient);

impl HttpClient for Unhurried {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

/// A client that is made when it is used first, and kept. To make one reads a table of all regions anew, and an everyday
/// invocation needs but some of a function's clients.
pub type Later<C> = LazyCell<C, Box<dyn FnOnce() -> C>>;

/// A client to be made by `make`.
#[must_use]
pub fn later<C: 'static>(aws: &SdkConfig, make: fn(&SdkConfig) -> C) -> Later<C> {
    let aws = aws.clone();
    LazyCell::new(Box::new(move || make(&aws)))
}

/// Lambda gives a process credentials for longer than it lets it live.
fn credentials(environment: &Environment) -> Option<SharedCredentialsProvider> {
    let (key, secret) = (environment.optional(ACCESS_KEY)?, environment.optional(SECRET_KEY)?);
    let token = environment.optional(SESSION_TOKEN).map(str::to_owned);
    Some(SharedCredentialsProvider::new(Credentials::new(key, secret, token, None, "Lambda")))
}

/// Whether Amazon's own authorities are all that is needed: five, not the hundred and forty that certify everything,
/// which to read takes as long as all else at a start. Other partitions and somebody's own endpoints may have others: for
/// them the system's count.
fn is_amazons(environment: &Environment) -> bool {
    let elsewhere = OTHER_AUTHORITIES.iter().any(|name| environment.optional(name).is_some());
    // Not `cn-north-1`, `eusc-de-east-1`, `us-iso-east-1`, or whatever may come.
    let region = environment.optional(REGION).unwrap_or_default();
    !elsewhere && region.split('-').count() == 3 && !region.starts_with("cn-")
}

fn trusted(environment: &Environment) -> TrustStore {
    if is_amazons(environment) {
        TrustStore::empty().with_pem_certificate(AMAZON)
    } else {
        TrustStore::empty().with_native_roots(true)
    }
}

/// What is set for one service by `AWS_…_<SERVICE>`, or for all.
#[derive(Debug)]
struct Services(Environment);

impl LoadServiceConfig for Services {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace([' ', '-'], "_");
        let of_service = format!("{}_{service}", key.env());
        self.0.optional(&of_service).or_else(|| self.0.optional(key.env())).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
    use aws_smithy_types::config_bag::ConfigBag;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn amazons_authorities_are_enough_where_only_they_certify() {
        for region in ["ap-northeast-1", "us-east-1", "eu-central-2"] {
            assert!(is_amazons(&environment(&[(REGION, region)])), "{region}");
        }
        for region in ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1", "local", ""] {
            assert!(!is_amazons(&environment(&[(REGION, region)])), "{region}");
        }
        for name in OTHER_AUTHORITIES {
            assert!(!is_amazons(&environment(&[(REGION, "us-east-1"), (name, "/somewhere")])), "{name}");
        }
    }

    #[test]
    fn every_authority_can_be_read() {
        assert_eq!(AMAZON.matches("BEGIN CERTIFICATE").count(), 5);
        // To build a connector reads the trust store, and panics over what it can't.
        let client = https(&environment(&[(REGION, "ap-northeast-1")]));
        client.validate_base_client_config(&RuntimeComponentsBuilder::new("test"), &ConfigBag::base()).unwrap();
    }

    #[test]
    fn a_service_has_its_own_endpoint_or_that_of_all() {
        let services = Services(environment(&[
            (ENDPOINT, "http://all"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
            ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", "http://cognito"),
        ]));
        let endpoint = |service| {
            let key = ServiceConfigKey::builder().service_id(service).env(ENDPOINT).profile("endpoint_url").build();
            services.load_config(key.unwrap())
        };
        assert_eq!(endpoint("S3").as_deref(), Some("http://s3"));
        assert_eq!(endpoint("Cognito Identity").as_deref(), Some("http://cognito"));
        assert_eq!(endpoint("IAM").as_deref(), Some("http://all"));
    }

    #[test]
    fn credentials_and_region_are_lambdas() {
        let variables = [(REGION, "us-east-1"), (ACCESS_KEY, "AKIAEXAMPLE"), (SECRET_KEY, "s"), (SESSION_TOKEN, "t")];
        let config = load(&environment(&variables));
        assert_eq!(config.region().map(ToString::to_string).as_deref(), Some("us-east-1"));
        assert!(config.credentials_provider().is_some());
        assert!(load(&environment(&variables[..2])).credentials_provider().is_none(), "a key without its secret");
    }
}
