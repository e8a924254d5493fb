"""Requests in the pipeline account: pipeline-starter, key, pipeline, build, deployment and artifact-checker."""

from tests.iam.requests import (
    ELSEWHERE,
    KEY,
    SSE,
    SSE_KEY,
    STRANGER,
    VIA_S3,
    WAYS,
    P,
    T,
    arn,
    bucket,
    but,
    may,
    never,
    not_through_s3,
    role,
    wrong_headers,
)
from tools.layout import REGION

FINDING = {"events:source": "sekisho.checker", "events:detail-type": "Artifact Finding"}
for account, _, _ in WAYS:
    starter, pipeline, build, cloudformation = (
        role(account, what) for what in ("pipeline-starter", "pipeline", "build", "cloudformation")
    )
    checker, batch = role(account, "artifact-checker"), role(account, "artifact-batch")
    artifacts, key = bucket(account), KEY[account]
    tls = {"aws:SecureTransport": "true"}
    plain = but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"})
    elsewhere = but("of another bucket", "identity", to="arn:aws:s3:::somebodys-bucket/one.zip")
    shop = arn("codepipeline", account, "shop")
    may(
        "starts a pipeline",
        starter,
        "codepipeline:StartPipelineExecution codepipeline:GetPipelineExecution codepipeline:ListActionExecutions "
        "codepipeline:ListPipelineExecutions",
        shop,
        anywhere=["name"],
    )
    never(
        "does not change a pipeline",
        starter,
        "codepipeline:UpdatePipeline codepipeline:DeletePipeline codepipeline:PutApprovalResult",
    )

    for who, service, source, other in [
        (
            pipeline,
            "codepipeline.amazonaws.com",
            arn("codepipeline", account, "shop"),
            arn("codepipeline", account, "shop", "eu-west-1"),
        ),
        (
            build,
            "codebuild.amazonaws.com",
            arn("codebuild", account, "project/shop"),
            arn("codebuild", account, "project/other"),
        ),
        (
            cloudformation,
            "cloudformation.amazonaws.com",
            arn("cloudformation", account, "stack/shop/1"),
            arn("cloudformation", account, "stack/other/1"),
        ),
    ]:
        may(
            "is assumed by its service",
            service,
            "sts:AssumeRole",
            who,
            but("for another resource", "resource", context={"aws:SourceArn": other}),
            but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
            but("by another service", "resource", who="ec2.amazonaws.com"),
            but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
            context={"aws:SourceArn": source, "aws:SourceAccount": account},
        )

    write = tls | {SSE: "aws:kms", SSE_KEY: key}
    for who in (pipeline, build, cloudformation, checker):
        may(
            "reads artifacts",
            who,
            "s3:GetObject s3:GetObjectVersion",
            artifacts + "/shop/one.zip",
            elsewhere,
            plain,
            context=tls,
        )
    for who in (pipeline, build, checker):
        may(
            "writes artifacts",
            who,
            "s3:PutObject",
            artifacts + "/shop/one.zip",
            elsewhere,
            plain,
            *(wrong_headers(arn("kms", account, "key/other")) if account != T else []),
            context=write,
        )
        # An UploadPart request has no encryption headers, so S3 uses the bucket's default key.
        may("writes artifacts without headers", who, "s3:PutObject", artifacts + "/shop/one.zip", plain, context=tls)
    for who in (pipeline, cloudformation, starter, f"arn:aws:iam::{account}:role/admin"):
        never(
            "does not write a package",
            who,
            "s3:PutObject",
            artifacts + "/packages/shop/abc",
            "DenyOtherPackagers",
            write,
        )
    for who in (build, checker):
        may(
            "writes a package" if who == build else "repairs a package",
            who,
            "s3:PutObject",
            artifacts + "/packages/shop/abc",
            context=write,
        )
    if account == T:
        for wrong in ({SSE: "AES256"}, {SSE: "aws:kms"}, {SSE: "aws:kms", SSE_KEY: arn("kms", account, "key/other")}):
            may(
                "admits a write under the wrong key",
                pipeline,
                "s3:PutObject",
                artifacts + "/shop/one.zip",
                context=tls | wrong,
            )
    may(
        "finds the bucket",
        pipeline,
        "s3:GetBucketLocation s3:GetBucketVersioning",
        artifacts,
        but("another bucket", "identity", to="arn:aws:s3:::somebodys-bucket"),
        plain,
        context=tls,
    )
    # The key of the bucket for files may be any key of the account.
    files = account == P
    for who, actions, anywhere in [
        (pipeline, "kms:Decrypt kms:GenerateDataKey", ["name"] if files else []),
        (build, "kms:Decrypt kms:GenerateDataKey", []),
        (cloudformation, "kms:Decrypt", []),
        (checker, "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo", []),
        (checker, "kms:Decrypt kms:ReEncryptFrom", ["name"]),
        (batch, "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo", []),
        (batch, "kms:Decrypt kms:ReEncryptFrom", ["name"]),
    ]:
        may(
            "uses the key",
            who,
            actions,
            key,
            *not_through_s3(),
            but("as an administrator of the account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
            but(
                "through S3 of another region", "identity", context={"kms:ViaService": f"s3.{ELSEWHERE}.amazonaws.com"}
            ),
            context=VIA_S3,
            anywhere=anywhere,
        )
    never(
        "does not use the key directly, even as an administrator",
        f"arn:aws:iam::{account}:role/admin",
        "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:CreateGrant",
        key,
        why="resource",
    )
    never(
        "does not use the key for other services",
        f"arn:aws:iam::{account}:role/admin",
        "kms:Decrypt",
        key,
        why="resource",
        context={"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"},
    )
    may(
        "administers the key",
        f"arn:aws:iam::{account}:role/admin",
        (
            "kms:CancelKeyDeletion kms:CreateAlias kms:DeleteAlias kms:DescribeKey kms:DisableKey kms:EnableKey "
            "kms:EnableKeyRotation kms:GetKeyPolicy kms:GetKeyRotationStatus kms:ListGrants kms:ListKeyPolicies "
            "kms:ListResourceTags kms:PutKeyPolicy kms:RevokeGrant kms:ScheduleKeyDeletion kms:TagResource "
            "kms:UntagResource kms:UpdateAlias kms:UpdateKeyDescription"
        ),
        key,
        but("from another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/admin"),
    )
    other_key = arn("kms", account, "key/somebodys")
    for who in (build, cloudformation) if files else (pipeline, build, cloudformation):
        never("does not use another key", who, "kms:Decrypt", other_key, context=VIA_S3)
    released = "arn:aws:s3:::shop-files/release/index.html"
    if files:
        may(
            "deploys files",
            pipeline,
            "s3:PutObject",
            released,
            but("outside release/", "identity", to="arn:aws:s3:::shop-files/index.html"),
            but("into another folder", "identity", to="arn:aws:s3:::shop-files/released/index.html"),
            but("into another bucket", "identity", to="arn:aws:s3:::shop-other/release/index.html"),
            but("into a stranger's bucket of that name", "identity", context={"aws:ResourceAccount": STRANGER}),
            context={"aws:ResourceAccount": account},
        )
    never(
        "does not read or remove files, or set their ACL" if files else "does not deploy files",
        pipeline,
        "s3:GetObject s3:DeleteObject s3:PutObjectAcl" if files else "s3:PutObject",
        released,
        context={"aws:ResourceAccount": account},
    )
    never(
        "does not write under another key",
        checker,
        "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo",
        other_key,
        context=VIA_S3,
    )

    build_logs = arn("logs", account, "log-group:/aws/codebuild/shop:log-stream:one")
    may("creates a build's log", build, "logs:CreateLogGroup", arn("logs", account, "log-group:/aws/codebuild/shop"))
    may(
        "writes to the log of a build",
        build,
        "logs:CreateLogStream logs:PutLogEvents",
        build_logs,
        but(
            "in another project's log",
            "identity",
            to=arn("logs", account, "log-group:/aws/codebuild/other:log-stream:one"),
        ),
    )
    may(
        "builds",
        pipeline,
        "codebuild:StartBuild codebuild:BatchGetBuilds",
        arn("codebuild", account, "project/shop"),
        but("another project", "identity", to=arn("codebuild", account, "project/other")),
    )
    may(
        "deploys by change set",
        pipeline,
        (
            "cloudformation:CreateChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeChangeSet "
            "cloudformation:DescribeStacks cloudformation:ExecuteChangeSet"
        ),
        arn("cloudformation", account, "stack/shop/1"),
        but("our own stack", "identity", to=arn("cloudformation", account, "stack/sekisho/1")),
    )
    may(
        "deploys as CloudFormation's role",
        pipeline,
        "iam:PassRole",
        cloudformation,
        but("another role", "identity", to=f"arn:aws:iam::{account}:role/admin"),
        but("to another service", "identity", context={"iam:PassedToService": "lambda.amazonaws.com"}),
        context={"iam:PassedToService": "cloudformation.amazonaws.com"},
    )
    may(
        "asks for approval",
        pipeline,
        "sns:Publish",
        arn("sns", account, "sekisho-notices"),
        but("on another topic", "identity", to=arn("sns", account, "orders")),
    )

    function, group = (
        arn("lambda", account, "function:shop-Hello-1A2B"),
        arn("logs", account, "log-group:/aws/lambda/shop-Hello-1A2B"),
    )
    application = f"arn:aws:iam::{account}:role/shop-HelloRole-1A2B"
    basic = {"iam:PolicyARN": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
    may(
        "creates a function",
        cloudformation,
        (
            "lambda:AddPermission lambda:CreateFunction lambda:DeleteFunction lambda:GetFunction "
            "lambda:GetFunctionCodeSigningConfig lambda:GetFunctionConfiguration lambda:GetFunctionRecursionConfig "
            "lambda:GetFunctionScalingConfig lambda:GetPolicy lambda:GetRuntimeManagementConfig lambda:ListTags "
            "lambda:RemovePermission lambda:TagResource lambda:UntagResource lambda:UpdateFunctionCode "
            "lambda:UpdateFunctionConfiguration"
        ),
        function,
        but("of this stack", "identity", to=arn("lambda", account, "function:temp-access")),
    )
    may(
        "creates the function's log",
        cloudformation,
        (
            "logs:CreateLogGroup logs:DeleteLogGroup logs:DeleteRetentionPolicy logs:GetDataProtectionPolicy "
            "logs:ListTagsForResource logs:PutRetentionPolicy logs:TagResource logs:UntagResource"
        ),
        group,
        but("of this stack", "identity", to=arn("logs", account, "log-group:/aws/lambda/temp-access")),
    )
    may(
        "lists logs",
        cloudformation,
        "logs:DescribeIndexPolicies logs:DescribeLogGroups logs:DescribeResourcePolicies",
        None,
    )
    grantable = [
        but("one that is eligible for temp-access", "MakeNobodyGrantable", context={"aws:TagKeys": ["team", key]})
        for key in ("sekisho:access", "Sekisho:Access")
    ]
    for does, misses in [
        (
            "iam:CreateRole",
            [
                *grantable,
                but(
                    "one with the access boundary",
                    "LeaveTheAccessBoundary",
                    context={"iam:PermissionsBoundary": f"arn:aws:iam::{account}:policy/sekisho-access-boundary"},
                ),
            ],
        ),
        ("iam:TagRole iam:UntagRole", grantable),
    ]:
        may("tags a role", cloudformation, does, application, *misses, context={"aws:TagKeys": ["team"]})
    may(
        "creates the function's role",
        cloudformation,
        "iam:CreateRole iam:DeleteRole iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies",
        application,
        but("a role of this stack", "identity", to=role(account, "pipeline")),
    )
    may(
        "lets the function write its log",
        cloudformation,
        "iam:AttachRolePolicy iam:DetachRolePolicy",
        application,
        but(
            "makes the function an administrator",
            "identity",
            context={"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
        but("a role of this stack", "identity", to=role(account, "pipeline")),
        context=basic,
    )
    may(
        "passes the role to the function",
        cloudformation,
        "iam:PassRole",
        application,
        but("to another service", "identity", context={"iam:PassedToService": "ec2.amazonaws.com"}),
        but("a role of this stack", "identity", to=role(account, "pipeline")),
        context={"iam:PassedToService": "lambda.amazonaws.com"},
    )
    never(
        "does not change this stack",
        cloudformation,
        "cloudformation:CreateChangeSet",
        arn("cloudformation", account, "stack/sekisho/1"),
    )
    never(
        "does not write permissions into the role",
        cloudformation,
        "iam:PutRolePolicy iam:UpdateAssumeRolePolicy iam:PutRolePermissionsBoundary",
        application,
    )

    # artifact-checker
    may(
        "reads the state of the bucket",
        checker,
        "s3:GetBucketPolicy s3:GetBucketPublicAccessBlock s3:GetEncryptionConfiguration "
        "s3:ListBucket s3:ListBucketVersions",
        artifacts,
        but("another bucket", "identity", to="arn:aws:s3:::somebodys-bucket"),
        plain,
        context=tls,
    )
    may(
        "reads and repairs an artifact",
        checker,
        (
            "s3:AbortMultipartUpload s3:GetObjectAcl s3:GetObjectAnnotation s3:GetObjectLegalHold "
            "s3:GetObjectRetention s3:GetObjectTagging s3:GetObjectVersionTagging "
            "s3:ListMultipartUploadParts s3:ListObjectAnnotations s3:PutObjectAnnotation s3:PutObjectTagging "
            "s3:UpdateObjectEncryption"
        ),
        artifacts + "/shop/one.zip",
        elsewhere,
        plain,
        context=tls,
    )
    for who in (pipeline, build, cloudformation, f"arn:aws:iam::{account}:role/admin"):
        never(
            "does not change the encryption of an artifact",
            who,
            "s3:UpdateObjectEncryption",
            artifacts + "/shop/one.zip",
            "DenyOtherRepairs",
            context=tls,
        )
    never(
        "does not delete artifacts",
        checker,
        "s3:DeleteObject s3:DeleteObjectVersion s3:PutObjectAcl",
        artifacts + "/shop/one.zip",
        context=tls,
    )
    may(
        "reads under the wrong key",
        checker,
        "kms:Decrypt kms:ReEncryptFrom",
        other_key,
        but("not through S3", "identity", context={"kms:ViaService": None}),
        but("of another account that admits everybody", "identity", to=arn("kms", STRANGER, "key/one")),
        context=VIA_S3,
        anywhere=["name", "else there"],
    )
    may("reads the state of a key", checker, "kms:DescribeKey", key, anywhere=["name"])
    may("lists pipelines", checker, "codepipeline:ListPipelines", None)
    may(
        "reads a pipeline",
        checker,
        "codepipeline:GetPipeline codepipeline:GetPipelineExecution codepipeline:ListActionExecutions "
        "codepipeline:ListPipelineExecutions",
        shop,
        anywhere=["name"],
    )
    may(
        "announces a finding",
        checker,
        "events:PutEvents",
        arn("events", account, "event-bus/default"),
        but("on the bus of the orders", "identity", to=arn("events", account, "event-bus/sekisho")),
        *(but(f"{key} {value}", "identity", context={key: value}) for key in FINDING for value in ("other", None)),
        context=FINDING,
    )
for home, name, other in [(P, "consumer", "reader"), (T, "reader", "consumer")]:
    may(
        f"assumes the role of a consumer, {name}",
        role(P, "artifact-checker"),
        "sts:AssumeRole",
        f"arn:aws:iam::{home}:role/{name}",
        but("another role there", "identity", to=f"arn:aws:iam::{home}:role/{other}"),
        anywhere=["else there"],
    )
never(
    "assumes no role if no consumer is named",
    role(T, "artifact-checker"),
    "sts:AssumeRole",
    f"arn:aws:iam::{T}:role/consumer",
)
