//! Lambda: the function invokes itself to continue a sweep.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use sekisho_lambda::ServiceError;

use crate::aws::service_error;

/// Invokes `function` asynchronously.
pub(crate) async fn invoke(client: &Client, function: &str, payload: String) -> Result<(), ServiceError> {
    let call = client.invoke().function_name(function).invocation_type(InvocationType::Event);
    match call.payload(Blob::new(payload)).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(service_error("lambda:InvokeFunction", error)),
    }
}
