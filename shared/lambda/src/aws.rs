//! The AWS configuration that all clients of a function share.
//!
//! `aws-config` is not used, because it looks for settings in files, in the metadata of instances and containers, and
//! at STS. On Lambda there are no such settings, and the search costs time and size at every start.

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

use crate::environment::{ACCESS_KEY, ENDPOINT_URL, Environment, OTHER_AUTHORITIES, REGION, SECRET_KEY, SESSION_TOKEN};

/// The root certificates of Amazon Trust Services, <https://www.amazontrust.com/repository/>, which certify all
/// endpoints of the partition `aws`. The first of them expires in 2037.
const AMAZON: &str = include_str!("amazon-trust-services.pem");

/// Reads the credentials and the region from the variables that Lambda sets, and the endpoints from the variables that
/// every SDK of AWS honors. TLS uses ring, and all clients share one connection pool.
///
/// Each call has at most three attempts of at most 5 s. Callers that need more attempts have their own retry loops.
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
        .http_client(SharedHttpClient::new(WithoutValidation(https(environment))))
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .service_config(Services(environment.clone()));
    config.set_endpoint_url(environment.optional(ENDPOINT_URL).map(str::to_owned));
    config.set_credentials_provider(credentials(environment));
    config.build()
}

fn https(environment: &Environment) -> SharedHttpClient {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    match TlsContext::builder().with_trust_store(trusted(environment)).build() {
        Ok(tls) => http.tls_context(tls).build_https(),
        // This arm is never reached, because a TLS context that has only a trust store can always be built. Without a
        // TLS context, the SDK would trust the system's authorities.
        Err(_) => http.build_https(),
    }
}

/// Wraps the SDK's HTTP client and leaves out its validation. Whenever a service's client is made, the validation would
/// build a connector and throw it away. The connector that is used is built later, at the first call.
#[derive(Debug)]
struct WithoutValidation(SharedHttpClient);

impl HttpClient for WithoutValidation {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

/// A client that is made at its first use and then kept. Making a client parses the table of all regions, and a typical
/// invocation needs only some of a function's clients.
pub type Later<C> = LazyCell<C, Box<dyn FnOnce() -> C>>;

/// Returns a client that `make` creates at its first use.
#[must_use]
pub fn later<C: 'static>(aws: &SdkConfig, make: fn(&SdkConfig) -> C) -> Later<C> {
    let aws = aws.clone();
    LazyCell::new(Box::new(move || make(&aws)))
}

/// The credentials of the environment. They have no expiry here, because Lambda ends a process before its credentials
/// expire.
fn credentials(environment: &Environment) -> Option<SharedCredentialsProvider> {
    let (key, secret) = (environment.optional(ACCESS_KEY)?, environment.optional(SECRET_KEY)?);
    let token = environment.optional(SESSION_TOKEN).map(str::to_owned);
    Some(SharedCredentialsProvider::new(Credentials::new(key, secret, token, None, "Lambda")))
}

/// Whether Amazon's five root certificates are enough. Reading the system's 140 certificates takes as long as the rest
/// of a start. Other partitions and custom endpoints may use other authorities, so they need the system's certificates.
fn needs_only_amazons_roots(environment: &Environment) -> bool {
    let elsewhere = OTHER_AUTHORITIES.iter().any(|name| environment.optional(name).is_some());
    // The following condition excludes regions of other partitions, such as `cn-north-1`, `eusc-de-east-1` and
    // `us-iso-east-1`.
    let region = environment.optional(REGION).unwrap_or_default();
    !elsewhere && region.split('-').count() == 3 && !region.starts_with("cn-")
}

fn trusted(environment: &Environment) -> TrustStore {
    if needs_only_amazons_roots(environment) {
        TrustStore::empty().with_pem_certificate(AMAZON)
    } else {
        TrustStore::empty().with_native_roots(true)
    }
}

/// The endpoint that the environment sets for the service with this id, such as `CloudTrail`.
#[must_use]
pub fn custom_endpoint(aws: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env(ENDPOINT_URL).profile("endpoint_url").build();
    let own = key.ok().and_then(|key| aws.service_config()?.load_config(key));
    own.or_else(|| aws.endpoint_url().map(str::to_owned))
}

/// Reads a setting from `AWS_…_<SERVICE>` or, if this variable is not set, from the variable for all services.
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
    fn regions_of_the_partition_aws_need_only_amazons_roots() {
        for region in ["ap-northeast-1", "us-east-1", "eu-central-2"] {
            assert!(needs_only_amazons_roots(&environment(&[(REGION, region)])), "{region}");
        }
        for region in ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1", "local", ""] {
            assert!(!needs_only_amazons_roots(&environment(&[(REGION, region)])), "{region}");
        }
        for name in OTHER_AUTHORITIES {
            assert!(!needs_only_amazons_roots(&environment(&[(REGION, "us-east-1"), (name, "/somewhere")])), "{name}");
        }
    }

    #[test]
    fn every_root_certificate_can_be_read() {
        assert_eq!(AMAZON.matches("BEGIN CERTIFICATE").count(), 5);
        // Building a connector reads the trust store, and panics if a certificate is malformed.
        let client = https(&environment(&[(REGION, "ap-northeast-1")]));
        client.validate_base_client_config(&RuntimeComponentsBuilder::new("test"), &ConfigBag::base()).unwrap();
    }

    #[test]
    fn a_service_uses_its_own_endpoint_or_the_common_one() {
        let services = Services(environment(&[
            (ENDPOINT_URL, "http://all"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
            ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", "http://cognito"),
        ]));
        let endpoint = |service| {
            let key = ServiceConfigKey::builder().service_id(service).env(ENDPOINT_URL).profile("endpoint_url").build();
            services.load_config(key.unwrap())
        };
        assert_eq!(endpoint("S3").as_deref(), Some("http://s3"));
        assert_eq!(endpoint("Cognito Identity").as_deref(), Some("http://cognito"));
        assert_eq!(endpoint("IAM").as_deref(), Some("http://all"));
    }

    #[test]
    fn credentials_and_region_come_from_lambdas_variables() {
        let variables = [(REGION, "us-east-1"), (ACCESS_KEY, "AKIAEXAMPLE"), (SECRET_KEY, "s"), (SESSION_TOKEN, "t")];
        let config = load(&environment(&variables));
        assert_eq!(config.region().map(ToString::to_string).as_deref(), Some("us-east-1"));
        assert!(config.credentials_provider().is_some());
        assert!(load(&environment(&variables[..2])).credentials_provider().is_none(), "a key without its secret");
    }
}
