//! Lambda: this function calls itself to go on with a sweep.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;

use crate::answer::Unanswered;
use crate::sdk::refusal;

const INVOKE: &str = "lambda:InvokeFunction";

/// Has `payload` answered by another invocation.
///
/// # Errors
/// Where Lambda did not take it.
pub async fn invoke(client: &Client, function: &str, payload: String) -> Result<(), Unanswered> {
    let call = client.invoke().function_name(function).invocation_type(InvocationType::Event);
    match call.payload(Blob::new(payload)).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(INVOKE, error).into_unanswered(INVOKE)),
    }
}
