"""A stand-in for CodePipeline that keeps pipelines and runs three kinds of actions.

- Source/CodeCommit assumes the action's role through the pipeline's role, archives the pinned commit (without a pin:
  the branch's head when the action runs, as on AWS), and puts the archive into the artifact bucket under the artifact
  store's key.
- Deploy/CloudFormation reads the artifact and creates or updates a stack, directly or by a change set.
- Approval/Manual publishes to the topic, and waits.

Every call to another service goes over the endpoint with the role's session, so that IAM, bucket and key policies
decide. An action of any other provider fails with a message. A pipeline runs one execution at a time, except in mode
PARALLEL.
"""
