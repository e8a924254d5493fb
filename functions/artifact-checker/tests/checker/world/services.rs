//! The simulated services other than S3.

use crate::world::request::{Request, Response, form};
use crate::world::{State, key};

pub(crate) fn describe_key(state: &State, request: &Request) -> Response {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let name = body["KeyId"].as_str().unwrap();
    let alias = name.rsplit_once(':').map_or(name, |(_, resource)| resource);
    let arn = match state.aliases.get(alias) {
        Some(arn) => arn.clone(),
        None if name.starts_with("arn:") => name.to_owned(),
        None => key(name),
    };
    match state.keys.get(&arn) {
        None => Response::json_error("NotFoundException", "Key does not exist"),
        Some(key) if !key.shown => Response::json_error("AccessDeniedException", "not authorized: kms:DescribeKey"),
        Some(key) => {
            let metadata = serde_json::json!({
                "KeyId": arn.rsplit('/').next(), "Arn": arn, "KeyState": key.state,
                "KeyManager": key.manager,
                "DeletionDate": key.deletion_date, "ValidTo": key.valid_to,
            });
            Response::new(200).body(serde_json::json!({"KeyMetadata": metadata}).to_string())
        }
    }
}

pub(crate) fn codepipeline(state: &mut State, request: &Request) -> Response {
    let Some(pipelines) = &state.pipelines else {
        return Response::json_error("AccessDeniedException", "not authorized to perform: codepipeline:ListPipelines");
    };
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let answer = match request.operation.as_str() {
        "ListPipelines" => {
            let names: Vec<_> = pipelines.keys().map(|name| serde_json::json!({"name": name})).collect();
            serde_json::json!({"pipelines": names})
        }
        "GetPipeline" => match pipelines.get(body["name"].as_str().unwrap()) {
            Some(pipeline) => serde_json::json!({"pipeline": pipeline}),
            None => return Response::json_error("PipelineNotFoundException", "no such pipeline"),
        },
        "ListActionExecutions" => {
            let actions = state.actions.get(body["pipelineName"].as_str().unwrap()).cloned().unwrap_or_default();
            serde_json::json!({"actionExecutionDetails": actions})
        }
        "GetPipelineExecution" => {
            let is_it = |one: &&serde_json::Value| one["pipelineExecutionId"] == body["pipelineExecutionId"];
            match state.executions.iter().find(is_it) {
                Some(execution) => serde_json::json!({"pipelineExecution": execution}),
                None => return Response::json_error("PipelineExecutionNotFoundException", "no such execution"),
            }
        }
        "ListPipelineExecutions" => {
            let latest: Vec<_> = state.executions.iter().take(1).collect();
            serde_json::json!({"pipelineExecutionSummaries": latest})
        }
        "RetryStageExecution" => {
            state.retried.push(body.clone());
            serde_json::json!({"pipelineExecutionId": body["pipelineExecutionId"]})
        }
        other => panic!("the function calls {other} of CodePipeline"),
    };
    Response::new(200).body(answer.to_string())
}

pub(crate) fn send_message(state: &mut State, request: &Request) -> Response {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(request.operation, "SendMessage");
    assert_eq!(body["QueueUrl"], crate::world::QUEUE);
    let delay = body["DelaySeconds"].as_u64().unwrap();
    assert!(delay <= 900, "{delay}");
    state.queue.push((body["MessageBody"].as_str().unwrap().to_owned(), delay));
    Response::new(200).body(r#"{"MessageId":"m"}"#)
}

pub(crate) fn assume_role(state: &mut State, request: &Request) -> Response {
    let mut asked = form(&request.body);
    assert_eq!((request.operation.as_str(), asked["Version"].as_str()), ("AssumeRole", "2011-06-15"));
    assert_eq!(asked["RoleSessionName"], "sekisho-artifact-checker");
    state.assumed.push(asked.remove("RoleArn").unwrap());
    if !state.consumer_can_be_assumed {
        return Response::new(403).body(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: \
             sts:AssumeRole</Message></Error></ErrorResponse>",
        );
    }
    Response::new(200).body(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>CONSUMER</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
    )
}

pub(crate) fn publish(state: &mut State, request: &Request) -> Response {
    let message = form(&request.body).remove("Message").unwrap_or_default();
    state.published.push(message);
    let body = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
    Response::new(200).body(body)
}

pub(crate) fn put_events(state: &mut State, request: &Request) -> Response {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let entries = body["Entries"].as_array().unwrap();
    assert!((1..=10).contains(&entries.len()));
    for entry in entries {
        assert_eq!(
            (entry["Source"].as_str(), entry["DetailType"].as_str()),
            (Some("sekisho.checker"), Some("Artifact Finding"))
        );
        assert!(entry["EventBusName"].as_str().unwrap().ends_with(":222222222222:event-bus/default"));
        state.events.push(serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap());
    }
    let results: Vec<_> = entries.iter().map(|_| serde_json::json!({"EventId": "1"})).collect();
    Response::new(200).body(serde_json::json!({"Entries": results, "FailedEntryCount": 0}).to_string())
}

/// A pipeline in the form in which `GetPipeline` returns it.
pub(crate) fn pipeline(name: &str, bucket: &str, key: Option<&str>) -> serde_json::Value {
    let mut store = serde_json::json!({"type": "S3", "location": bucket});
    if let Some(key) = key {
        store["encryptionKey"] = serde_json::json!({"id": key, "type": "KMS"});
    }
    let role = "arn:aws:iam::222222222222:role/p";
    serde_json::json!({"name": name, "roleArn": role, "stages": [], "artifactStore": store})
}
