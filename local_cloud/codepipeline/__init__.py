"""A stand-in for CodePipeline that keeps pipelines and runs four kinds of actions.

- Source/CodeCommit assumes the action's role through the pipeline's role, and archives the pinned commit. If the
  execution has no pin, the action archives the commit that is the branch's head at that time, as on AWS. The archive
  goes into the artifact bucket under the artifact store's key.
- Source/ECR describes the pinned image with the action's role, which belongs to the registry's account. If the
  execution has no pin, the action looks up its tag, and fails if there is no such tag.
- Deploy/CloudFormation reads the artifact and creates or updates a stack, directly or by a change set.
- Approval/Manual publishes the request to the action's topic, and waits until somebody approves or rejects it.

The actions call the other services over the local cloud's endpoint, with a session of the role. Therefore IAM policies,
bucket policies and key policies apply to these calls. An action of any other provider fails with a message. A pipeline
runs one execution at a time, except in mode PARALLEL.

As on AWS, an update of a pipeline cancels its executions, and a failed stage can be retried, under the same execution
and with the next attempt. An execution shows its source revisions only after its source action has run.
"""
