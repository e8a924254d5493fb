"""Requests of temp-access, of chat, and of the users who have access."""

from tests.iam.requests import ALL, KEY, STRANGER, UNIT_ACCOUNT, P, arn, bucket, but, may, never, role
from tools.layout import REGION

USERS = {account: f"arn:aws:iam::{account}:user/prd-user" for account in (P, ALL)}
for account, user in USERS.items():
    access, boundary = role(account, "temp-access"), f"arn:aws:iam::{account}:policy/sekisho-access-boundary"
    grantable = {"aws:ResourceTag/sekisho:access": "grantable", "iam:PermissionsBoundary": boundary}
    for kind, principal in (("User", user), ("Role", f"arn:aws:iam::{account}:role/support")):
        may(
            "reads a user or role",
            access,
            f"iam:Get{kind} iam:Get{kind}Policy iam:List{kind}Policies",
            principal,
            anywhere=["name"],
        )
        may(
            "grants and revokes access",
            access,
            f"iam:Put{kind}Policy iam:Delete{kind}Policy",
            principal,
            but("for a principal without the tag", "identity", context={"aws:ResourceTag/sekisho:access": None}),
            but(
                "for a principal with another tag",
                "identity",
                context={"aws:ResourceTag/sekisho:access": "no"},
            ),
            but("for a principal without a boundary", "identity", context={"iam:PermissionsBoundary": None}),
            but(
                "for a principal with another boundary",
                "identity",
                context={"iam:PermissionsBoundary": f"arn:aws:iam::{account}:policy/other"},
            ),
            context=grantable,
            anywhere=["name"],
        )
        never(
            "does not make anybody eligible",
            access,
            f"iam:Tag{kind} iam:Put{kind}PermissionsBoundary iam:Delete{kind}PermissionsBoundary "
            f"iam:Attach{kind}Policy",
            principal,
            context={},
        )
    may("lists grants", access, "iam:GetAccountAuthorizationDetails", None)

for account in (P, UNIT_ACCOUNT):
    channel = f"arn:aws:chatbot::{account}:chat-configuration/slack-channel/sekisho-{account}-{REGION}"
    may(
        "is assumed by Chatbot",
        "chatbot.amazonaws.com",
        "sts:AssumeRole",
        role(account, "chat"),
        but("for another channel", "resource", context={"aws:SourceArn": channel.replace("sekisho-", "orders-")}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("by another service", "resource", who="ec2.amazonaws.com"),
        but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
        context={"aws:SourceArn": channel, "aws:SourceAccount": account},
    )
CHAT = role(P, "chat")
may(
    "requests access in chat",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, "function:temp-access"),
    but("for another function", "identity", to=arn("lambda", P, "function:shop-api")),
)
for account in (P, UNIT_ACCOUNT):
    chat = role(account, "chat")
    orders = arn("cloudwatch", account, "alarm:orders")
    may(
        "shows any alarm in chat",
        chat,
        "cloudwatch:DescribeAlarms cloudwatch:DescribeAlarmHistory",
        orders,
        anywhere=["account", "region", "name"],
    )
    may("shows the graph of an alarm in chat", chat, "cloudwatch:GetMetricWidgetImage cloudwatch:ListMetrics", None)
    never("does not change an alarm in chat", chat, "cloudwatch:PutMetricAlarm cloudwatch:SetAlarmState", orders)
    for group in ("sekisho-event-relay", "temp-access"):
        logs = arn("logs", account, f"log-group:/aws/lambda/{group}:log-stream:one")
        elsewhere = arn("logs", account, "log-group:/aws/lambda/shop-api:log-stream:one")
        other = but("of an application", "identity", to=elsewhere)
        may("shows a function's log in chat", chat, "logs:GetLogEvents", logs, other)
        may(
            "searches a function's log in chat",
            chat,
            "logs:DescribeLogStreams logs:DescribeMetricFilters logs:FilterLogEvents logs:GetLogGroupFields "
            "logs:GetLogRecord logs:GetQueryResults logs:StartQuery",
            logs.partition(":log-stream")[0],
            but("of an application", "identity", to=elsewhere.partition(":log-stream")[0]),
        )
    may("finds logs in chat", chat, "logs:DescribeLogGroups logs:StopQuery", None)
    never(
        "does not write or delete a log in chat",
        chat,
        "logs:DeleteLogGroup logs:PutRetentionPolicy logs:PutSubscriptionFilter",
        arn("logs", account, "log-group:/aws/lambda/sekisho-event-relay"),
    )
RELAY = "function:sekisho-event-relay"
may(
    "controls trains in chat",
    role(UNIT_ACCOUNT, "chat"),
    "lambda:InvokeFunction",
    arn("lambda", UNIT_ACCOUNT, RELAY),
    *(
        but(what, "identity", to=arn("lambda", UNIT_ACCOUNT, resource))
        for what, resource in (
            ("by the alias for the dashboard", f"{RELAY}:board"),
            ("by a version", f"{RELAY}:1"),
            ("a function whose name begins the same", f"{RELAY}-2"),
            ("the starter", "function:sekisho-pipeline-starter"),
            ("temp-access, where nobody grants access", "function:temp-access"),
        )
    ),
)
never(
    "does not control trains where there are no repositories",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, RELAY),
)
never("does nothing else in chat", CHAT, "lambda:UpdateFunctionCode iam:GetUser s3:ListAllMyBuckets")

NOW = {"aws:CurrentTime": "2026-11-21T12:00:00Z"}  # a time inside the window of the grant in test_requests.py
for account, user in USERS.items():
    may(
        "works inside the window",
        user,
        (
            "athena:StartQueryExecution batch:DescribeJobs cloudwatch:PutMetricAlarm codecommit:GetFile "
            "dynamodb:PutItem ec2:StopInstances glue:GetTable kinesis:PutRecord lakeformation:GetDataAccess "
            "lambda:InvokeFunction logs:FilterLogEvents rds:RebootDBInstance s3:GetObject s3:PutObject sns:Publish "
            "sqs:SendMessage ssm:StartSession"
        ),
        None,
        but("before it", "identity", context={"aws:CurrentTime": "2026-11-21T08:00:00Z"}),
        but("after it", "identity", context={"aws:CurrentTime": "2026-11-21T16:00:00Z"}),
        context=NOW,
    )
    never(
        "does not stay through an identity",
        user,
        why="Identities",
        context=NOW,
        does=(
            "account:PutAlternateContact iam:AddUserToGroup iam:AttachUserPolicy iam:ChangePassword "
            "iam:CreateAccessKey iam:CreateLoginProfile iam:CreateUser iam:DeleteUserPermissionsBoundary "
            "iam:DeleteUserPolicy iam:EnableMFADevice iam:PassRole iam:PutUserPolicy iam:PutUserPermissionsBoundary "
            "iam:RemoveRoleFromInstanceProfile iam:SetDefaultPolicyVersion iam:TagUser iam:UntagUser "
            "iam:UpdateAssumeRolePolicy iam:UpdateLoginProfile identitystore:CreateUser "
            "organizations:LeaveOrganization ram:CreateResourceShare rolesanywhere:CreateTrustAnchor "
            "sso:CreateAccountAssignment sso-directory:CreateUser sts:AssumeRoot sts:GetFederationToken"
        ),
    )
    never(
        "does not stay through code under another role",
        user,
        why="CodeUnderOtherRoles",
        context=NOW,
        does=(
            "apprunner:StartDeployment appstream:CreateStreamingURL athena:CreatePresignedNotebookUrl "
            "athena:StartCalculationExecution athena:StartSession codecommit:DeleteFile "
            "elasticmapreduce:CreateStudioPresignedUrl elasticmapreduce:GetOnClusterAppUIPresignedURL "
            "elasticmapreduce:StartNotebookExecution elasticmapreduce:StartSession events:PutResourcePolicy "
            "greengrass:CreateDeployment imagebuilder:PutImagePolicy sagemaker:StartNotebookInstance "
            "sagemaker:StartSession amplify:CreateDeployment amplify:StartJob amplify:UpdateApp "
            "apprunner:CreateService apprunner:UpdateService appsync:CreateApiKey appsync:UpdateResolver "
            "autoscaling:CreateLaunchConfiguration batch:RegisterJobDefinition batch:SubmitJob "
            "chatbot:CreateSlackChannelConfiguration chatbot:UpdateSlackChannelConfiguration "
            "cloud9:CreateEnvironmentEC2 cloud9:UpdateEnvironment cloudformation:ActivateType "
            "cloudformation:CreateChangeSet cloudformation:CreateStack cloudformation:ExecuteChangeSet "
            "cloudformation:ImportStacksToStackSet cloudformation:RegisterType cloudformation:SetStackPolicy "
            "cloudformation:UpdateStack codebuild:CreateWebhook codebuild:UpdateWebhook codebuild:DeleteWebhook "
            "codebuild:CreateProject codebuild:PutResourcePolicy codebuild:RetryBuild codebuild:StartBuild "
            "codebuild:UpdateProject codecommit:CreateCommit codecommit:GitPush "
            "codecommit:MergePullRequestByFastForward codecommit:PutFile config:PutRemediationConfigurations "
            "config:StartRemediationExecution codedeploy:CreateDeployment codedeploy:UpdateDeploymentGroup "
            "codepipeline:CreatePipeline codepipeline:EnableStageTransition codepipeline:OverrideStageCondition "
            "codepipeline:PutApprovalResult codepipeline:RetryStageExecution codepipeline:StartPipelineExecution "
            "codepipeline:UpdatePipeline datapipeline:ActivatePipeline datapipeline:CreatePipeline "
            "datapipeline:PutPipelineDefinition ec2:AssociateIamInstanceProfile ec2:CreateLaunchTemplateVersion "
            "ec2:ModifyInstanceAttribute ecr:PutImage emr-containers:StartJobRun ec2:ModifyLaunchTemplate "
            "ec2:ReplaceIamInstanceProfileAssociation ecs:RegisterTaskDefinition ecs:RunTask ecs:StartTask "
            "elasticbeanstalk:CreateApplicationVersion airflow:CreateCliToken airflow:UpdateEnvironment "
            "chatbot:AssociateToConfiguration chatbot:RedeemSlackOauthCode ec2:CreateReplaceRootVolumeTask "
            "kinesisanalytics:CreateApplication kinesisanalytics:UpdateApplication lightsail:CreateInstances "
            "ssm:CreateMaintenanceWindow ssm:RegisterTaskWithMaintenanceWindow ssm:UpdateMaintenanceWindowTask "
            "elasticbeanstalk:UpdateEnvironment elasticmapreduce:AddJobFlowSteps events:PutRule events:PutTargets "
            "glue:CreateJob glue:RunStatement glue:StartJobRun glue:UpdateJob imagebuilder:CreateImage "
            "imagebuilder:StartImagePipelineExecution imagebuilder:UpdateImagePipeline lambda:AddPermission "
            "lambda:CreateFunction lambda:PublishLayerVersion lambda:PutFunctionConcurrency lambda:UpdateFunctionCode "
            "lambda:UpdateFunctionConfiguration pipes:CreatePipe pipes:UpdatePipe "
            "sagemaker:CreatePresignedNotebookInstanceUrl sagemaker:UpdateNotebookInstance scheduler:CreateSchedule "
            "scheduler:UpdateSchedule ssm:CreateActivation ssm:CreateAssociation ssm:CreateDocument "
            "ssm:StartAutomationExecution ssm:StartChangeRequestExecution ssm:UpdateAssociation ssm:UpdateDocument "
            "servicecatalog:CreateProduct servicecatalog:ExecuteProvisionedProductServiceAction "
            "servicecatalog:ProvisionProduct servicecatalog:UpdateProvisionedProduct synthetics:CreateCanary "
            "synthetics:StartCanary synthetics:UpdateCanary states:CreateStateMachine "
            "states:PublishStateMachineVersion states:UpdateStateMachine"
        ),
    )
    never(
        "does not come back through a door from outside",
        user,
        why="DoorsFromOutside",
        context=NOW,
        does=(
            "apigateway:UpdateDomainNamePolicy backup:PutBackupVaultSharingPolicy "
            "cognito-identity:GetOpenIdTokenForDeveloperIdentity datazone:GetEnvironmentCredentials "
            "deadline:AssumeQueueRoleForUser elasticmapreduce:GetClusterSessionCredentials "
            "emr-containers:GetManagedEndpointSessionCredentials gamelift:GetComputeAccess "
            "lakeformation:GetTemporaryGlueTableCredentials quicksight:RegisterUser s3express:PutAccessPointPolicy "
            "s3files:PutFileSystemPolicy s3vectors:PutVectorBucketPolicy sso-oauth:CreateTokenWithIAM "
            "sts:GetWebIdentityToken codeartifact:PutDomainPermissionsPolicy eks:AssociateIdentityProviderConfig "
            "glacier:SetVaultAccessPolicy grafana:CreateWorkspaceApiKey grafana:UpdatePermissions iot:AttachPolicy "
            "iot:CreateCertificateFromCsr iot:CreateKeysAndCertificate iot:CreatePolicyVersion iot:RegisterCertificate "
            "kafka:PutClusterPolicy lightsail:SetResourceAccessForBucket redshift-serverless:PutResourcePolicy "
            "redshift:PutResourcePolicy s3-object-lambda:PutObjectAcl s3-outposts:PutBucketPolicy "
            "s3:PutAccessPointConfigurationForObjectLambda s3express:PutBucketPolicy s3tables:PutTableBucketPolicy "
            "sagemaker:PutModelPackageGroupPolicy vpc-lattice:PutResourcePolicy acm-pca:IssueCertificate "
            "acm-pca:PutPolicy aoss:CreateAccessPolicy cognito-identity:CreateIdentityPool "
            "cognito-identity:SetIdentityPoolRoles cognito-identity:UpdateIdentityPool eks:AssociateAccessPolicy "
            "eks:CreateAccessEntry eks:UpdateAccessEntry es:AuthorizeVpcEndpointAccess es:UpdateDomainConfig "
            "events:PutPermission transfer:CreateUser transfer:ImportSshPublicKey transfer:UpdateUser "
            "apigateway:UpdateRestApiPolicy backup:PutBackupVaultAccessPolicy dynamodb:PutResourcePolicy "
            "ec2:ModifyImageAttribute ec2:ModifySnapshotAttribute ec2:ModifyVpcEndpointServicePermissions "
            "ecr:PutRegistryPolicy ecr:SetRepositoryPolicy elasticfilesystem:PutFileSystemPolicy "
            "glue:PutResourcePolicy kinesis:PutResourcePolicy kms:PutKeyPolicy kms:ReplicateKey "
            "lakeformation:GrantPermissions lakeformation:PutDataLakeSettings logs:PutResourcePolicy "
            "rds:ModifyDBSnapshotAttribute redshift:AuthorizeDataShare s3:PutReplicationConfiguration "
            "s3:CreateAccessPoint s3:PutBucketAcl s3:PutBucketPublicAccessBlock s3:PutBucketOwnershipControls "
            "s3:PutBucketPolicy secretsmanager:PutResourcePolicy ses:CreateEmailIdentityPolicy ses:PutIdentityPolicy "
            "ses:UpdateEmailIdentityPolicy sns:AddPermission sns:SetTopicAttributes sqs:AddPermission "
            "sqs:SetQueueAttributes ssm:ModifyDocumentPermission ssm:PutResourcePolicy"
        ),
    )
    may(
        "lets AWS use a key for a volume",
        user,
        "kms:CreateGrant",
        arn("kms", account, "key/volumes"),
        but("grants the key to somebody", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": "false"}),
        but("grants the key without naming a resource", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": None}),
        context=NOW | {"kms:GrantIsForAWSResource": "true"},
    )
    never(
        "does not remove traces",
        user,
        (
            "chatbot:DeleteSlackChannelConfiguration cloudtrail:DeleteTrail cloudtrail:PutEventSelectors "
            "cloudtrail:StopLogging cloudtrail:UpdateTrail cloudwatch:PutAlarmMuteRule"
        ),
        why="Traces",
        context=NOW,
    )
    for action, resource in [
        ("cloudformation:DeleteStack", arn("cloudformation", account, "stack/sekisho/1")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", account, "alarm:sekisho-temp-access-errors")),
        ("cloudwatch:DeleteDashboards", f"arn:aws:cloudwatch::{account}:dashboard/sekisho-{REGION}"),
        ("dynamodb:PutItem", arn("dynamodb", account, "table/sekisho-ledger")),
        ("events:DeleteEventBus", arn("events", account, "event-bus/sekisho")),
        ("events:DisableRule", arn("events", account, "rule/sekisho-access-sweep")),
        ("iam:GetPolicy", f"arn:aws:iam::{account}:policy/sekisho-access-boundary"),
        ("iam:GetRole", role(account, "temp-access")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:sekisho-pipeline-starter")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:temp-access")),
        ("lambda:DeleteLayerVersion", arn("lambda", account, "layer:sekisho-config:1")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/sekisho-pipeline-starter")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/temp-access")),
        ("s3:PutObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a2b3c/one.zip"),
        ("s3:DeleteObject", bucket(account) + "/shop/one.zip"),
        ("sns:DeleteTopic", arn("sns", account, "sekisho-notices")),
        ("sqs:PurgeQueue", arn("sqs", account, "sekisho-pipeline-starter-dead-letters")),
        ("kms:ScheduleKeyDeletion", KEY[account]),
    ]:
        never("does not change this stack", user, action, resource, why="ThisStack", context=NOW)
may(
    "assumes a listed role",
    USERS[P],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    but("a role that is not listed", "OtherRoles", to=f"arn:aws:iam::{P}:role/admin"),
    context=NOW,
)
never(
    "assumes no role if none is listed",
    USERS[ALL],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    "OtherRoles",
    NOW,
)
