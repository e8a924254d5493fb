"""CloudFormation's handlers in cfn-lint's schemas: their calls, and the properties that they can't change in place."""

import functools
import json
import pathlib

import cfnlint

from tests.template import deployed

SCHEMAS = pathlib.Path(cfnlint.__file__).parent / "data" / "schemas"
# Calls for properties that the template does not use. For each kind of resource, each reason has its calls.
UNUSED = {
    "AWS::CodePipeline::Pipeline": {
        "no transition is disabled": "codepipeline:DisableStageTransition codepipeline:EnableStageTransition",
        "no change restarts it": "codepipeline:StartPipelineExecution",
        "its source is no connection": "codestar-connections:PassConnection",
    },
    "AWS::DynamoDB::Table": {
        "no import": (
            "dynamodb:DescribeImport dynamodb:ImportTable s3:GetObject s3:GetObjectMetadata s3:ListBucket "
            "logs:CreateLogGroup logs:CreateLogStream logs:DescribeLogGroups logs:DescribeLogStreams logs:PutLogEvents "
            "logs:PutRetentionPolicy"
        ),
        "no insights": "dynamodb:UpdateContributorInsights",
        "no stream": (
            "dynamodb:EnableKinesisStreamingDestination dynamodb:DisableKinesisStreamingDestination "
            "dynamodb:UpdateKinesisStreamingDestination kinesis:DescribeStream kinesis:PutRecords"
        ),
        "no policy of its own": "dynamodb:PutResourcePolicy dynamodb:DeleteResourcePolicy",
        "no replica": (
            "dynamodb:CreateTableReplica dynamodb:AssociateTableReplica dynamodb:Scan dynamodb:Query "
            "dynamodb:UpdateItem dynamodb:PutItem dynamodb:GetItem dynamodb:DeleteItem dynamodb:BatchWriteItem "
            "iam:CreateServiceLinkedRole"
        ),
        "no key of its own": "kms:CreateGrant kms:Decrypt kms:DescribeKey kms:Encrypt kms:ListAliases kms:RevokeGrant",
        "kept, and protected": "dynamodb:DeleteTable",
    },
    "AWS::ECR::Repository": {
        "no key of its own": "kms:CreateGrant kms:DescribeKey kms:RetireGrant",
        "kept": "ecr:DeleteRepository",
    },
    "AWS::Events::EventBus": {
        "no key of its own": (
            "kms:DescribeKey kms:GenerateDataKey kms:Decrypt kms:GenerateDataKeyWithoutPlaintext kms:ReEncrypt "
            "kms:ReEncryptFrom kms:ReEncryptTo kms:Encrypt"
        ),
    },
    "AWS::Events::Rule": {"no role of its own": "iam:PassRole"},
    "AWS::IAM::ManagedPolicy": {
        "attached by the roles": "iam:AttachRolePolicy iam:DetachRolePolicy",
        "no users and no groups": (
            "iam:AttachGroupPolicy iam:AttachUserPolicy iam:DetachGroupPolicy iam:DetachUserPolicy"
        ),
    },
    "AWS::IAM::Role": {"no boundary": "iam:DeleteRolePermissionsBoundary iam:PutRolePermissionsBoundary"},
    "AWS::KMS::Key": {"always enabled, always rotated": "kms:DisableKey kms:DisableKeyRotation kms:EnableKey"},
    "AWS::Lambda::Alias": {
        "never moved step by step": (
            "codedeploy:CreateDeployment codedeploy:GetDeployment codedeploy:GetDeploymentConfig "
            "codedeploy:GetDeploymentGroup codedeploy:StopDeployment"
        ),
        "no provisioned concurrency": (
            "lambda:DeleteProvisionedConcurrencyConfig lambda:GetProvisionedConcurrencyConfig "
            "lambda:PutProvisionedConcurrencyConfig"
        ),
    },
    "AWS::Lambda::EventSourceMapping": {"no key of its own": "kms:Decrypt kms:DescribeKey kms:GenerateDataKey"},
    "AWS::Lambda::Function": {
        "no network": "ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeVpcs ec2:DescribeNetworkInterfaces",
        "no file system": "elasticfilesystem:DescribeMountTargets s3files:ListMountTargets",
        "no key of its own": "kms:CreateGrant kms:Decrypt kms:DescribeKey kms:Encrypt kms:GenerateDataKey",
        "no signing": (
            "lambda:GetCodeSigningConfig lambda:PutFunctionCodeSigningConfig lambda:DeleteFunctionCodeSigningConfig"
        ),
        "runtime and scaling as they are": "lambda:PutRuntimeManagementConfig lambda:PutFunctionScalingConfig",
        "no version, no capacity": "lambda:PublishVersion lambda:PassCapacityProvider",
    },
    "AWS::Logs::LogGroup": {
        "no policy": (
            "logs:PutDataProtectionPolicy logs:DeleteDataProtectionPolicy logs:PutResourcePolicy "
            "logs:DeleteResourcePolicy logs:PutIndexPolicy logs:DeleteIndexPolicy"
        ),
        "no delivery": "logs:CreateLogDelivery s3:REST.PUT.OBJECT firehose:TagDeliveryStream",
        "no key of its own": "logs:AssociateKmsKey logs:DisassociateKmsKey",
        "always with a retention": "logs:DeleteRetentionPolicy",
        "no protection, no tokens": "logs:PutLogGroupDeletionProtection logs:PutBearerTokenAuthentication",
    },
    "AWS::S3::Bucket": {
        "no attributes": "s3:PutBucketAbac",
        "no analytics, inventory, metrics, tiering, acceleration": (
            "s3:PutAnalyticsConfiguration s3:PutInventoryConfiguration s3:PutMetricsConfiguration "
            "s3:PutIntelligentTieringConfiguration s3:PutAccelerateConfiguration s3:DeleteBucketAnalyticsConfiguration "
            "s3:DeleteBucketMetricsConfiguration"
        ),
        "no website": "s3:PutBucketCORS s3:PutBucketWebsite s3:DeleteBucketCors s3:DeleteBucketWebsite",
        "no replication": (
            "s3:PutBucketReplication s3:PutReplicationConfiguration s3:DeleteBucketReplication iam:PassRole"
        ),
        "no lists of access": "s3:PutBucketAcl s3:PutObjectAcl",
        "no locks": "s3:PutBucketObjectLockConfiguration s3:PutObjectLockConfiguration s3:DeleteObject",
        "no logs": "s3:PutBucketLogging",
        "no tables": (
            "s3:CreateBucketMetadataTableConfiguration s3:DeleteBucketMetadataTableConfiguration "
            "s3:UpdateBucketMetadataJournalTableConfiguration s3:UpdateBucketMetadataInventoryTableConfiguration "
            "s3:UpdateBucketMetadataAnnotationTableConfiguration s3tables:CreateNamespace s3tables:CreateTable "
            "s3tables:CreateTableBucket s3tables:GetTable s3tables:PutTableBucketPolicy s3tables:PutTableEncryption "
            "s3tables:PutTablePolicy s3tables:GetTableMetadataLocation s3tables:UpdateTableMetadataLocation"
        ),
        "always encrypted, always with a lifecycle": "s3:DeleteBucketEncryption s3:DeleteBucketLifecycle",
    },
    "AWS::SNS::Topic": {"no policy on data": "sns:PutDataProtectionPolicy"},
}


def kinds():
    """Returns the kinds of resources in the template."""
    return sorted({one["Type"] for one in deployed.expanded()["Resources"].values()})


def schema(kind):
    known = json.loads((SCHEMAS / "providers" / f"{deployed.REGION}.json").read_text())
    return json.loads((SCHEMAS / "resources" / f"{known[kind]}.json").read_text())


def create_only(kind):
    """Returns the properties that CloudFormation can't change without a new resource."""
    found = schema(kind)
    return {
        one.split("/")[2]
        for name in ("createOnlyProperties", "conditionalCreateOnlyProperties")
        for one in found.get(name, [])
    }


HANDLERS = ("create", "read", "update", "delete")


@functools.cache
def calls_of(kind, *names):
    """Returns the calls of a kind's handlers, or of the named handlers, for all properties."""
    handlers = schema(kind).get("handlers", {})
    named = [action for name in names or HANDLERS for action in handlers.get(name, {}).get("permissions", [])]
    # IAM ignores upper and lower case in the service's name of an action.
    return {f"{service.lower()}:{action}" for service, action in (one.split(":") for one in named)}


def unused(kind):
    return {action for actions in UNUSED.get(kind, {}).values() for action in actions.split()}


def calls(kind, *names):
    """Returns the calls of a kind's handlers for the properties that the template uses."""
    return calls_of(kind, *names) - unused(kind)
