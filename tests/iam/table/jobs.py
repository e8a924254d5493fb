"""Requests about the jobs of S3 Batch Operations, which repair artifacts in large numbers."""

from tests.iam.requests import (
    KEY,
    SSE,
    SSE_KEY,
    STRANGER,
    WAYS,
    T,
    arn,
    bucket,
    but,
    may,
    never,
    role,
)

SERVICE = "batchoperations.s3.amazonaws.com"
CHECKER = "function:sekisho-artifact-checker"
for account, _, _ in WAYS:
    checker, batch, pipeline = (role(account, what) for what in ("artifact-checker", "artifact-batch", "pipeline"))
    artifact = bucket(account) + "/shop/one.zip"
    manifest = bucket(account) + "/sekisho-reports/shop/manifest-1.csv"
    tls = {"aws:SecureTransport": "true"}
    plain = but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"})
    sweeper = {"lambda:SourceFunctionArn": arn("lambda", account, "function:sekisho-artifact-sweeper")}
    by_others = [
        but("as artifact-checker", "identity", context={"lambda:SourceFunctionArn": arn("lambda", account, CHECKER)}),
        but("from no function", "identity", context={"lambda:SourceFunctionArn": None}),
    ]
    may("creates a job", checker, "s3:CreateJob", None, *by_others, context=sweeper)
    may(
        "looks at a job",
        checker,
        "s3:DescribeJob",
        arn("s3", account, "job/0a1b2c3d"),
        *by_others,
        context=sweeper,
        anywhere=["name"],
        beyond="s3:GetJobTagging",
    )
    never(
        "does not change a job",
        checker,
        "s3:UpdateJobPriority s3:UpdateJobStatus",
        arn("s3", account, "job/0a1b2c3d"),
        context=sweeper,
    )
    may(
        "hands the role for jobs to S3 Batch Operations",
        checker,
        "iam:PassRole",
        batch,
        *by_others,
        but("to another service", "identity", context={"iam:PassedToService": "lambda.amazonaws.com"}),
        but("another role of the stack", "identity", to=role(account, "build")),
        context=sweeper | {"iam:PassedToService": SERVICE},
    )
    source = {"aws:SourceArn": arn("s3", account, "job/0a1b2c3d"), "aws:SourceAccount": account}
    for context in (source, {}):
        may(
            "is assumed by S3 Batch Operations",
            SERVICE,
            "sts:AssumeRole",
            batch,
            but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
            but(
                "for a job of another account",
                "resource",
                context={"aws:SourceArn": arn("s3", STRANGER, "job/0a1b2c3d")},
            ),
            but("by another service", "resource", who="ec2.amazonaws.com"),
            but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
            context=context,
        )
    may(
        "repairs an artifact",
        batch,
        "s3:UpdateObjectEncryption",
        artifact,
        but("of another bucket", "identity", to="arn:aws:s3:::somebodys-bucket/one.zip"),
        plain,
        context=tls,
    )
    may(
        "reads a manifest",
        batch,
        "s3:GetObject s3:GetObjectVersion",
        manifest,
        but("which is an artifact", "identity", to=artifact),
        plain,
        context=tls,
    )
    with_keys_of_s3 = {SSE: "AES256"}
    with_the_key = {SSE: "aws:kms", SSE_KEY: KEY[account]}
    for headers in ({}, with_keys_of_s3, with_the_key):
        may(
            "writes a report",
            batch,
            "s3:PutObject",
            manifest,
            but("to another bucket", "identity", to="arn:aws:s3:::somebodys-bucket/one.csv"),
            *(
                [but("in place of an artifact", "DenyOtherAlgorithms", to=artifact)]
                if headers == with_keys_of_s3 and account != T
                else []
            ),
            plain,
            *(
                [but("as a pipeline", "DenyOtherAlgorithmsInReports", who=pipeline)]
                if headers == with_keys_of_s3 and account != T
                else []
            ),
            context=tls | headers,
        )
    # AWS's policies for UpdateObjectEncryption allow PutObject on the objects.
    for repaired in (artifact, bucket(account) + "/packages/shop/abc"):
        may(
            "repairs an artifact or a package as a write",
            batch,
            "s3:PutObject",
            repaired,
            *([but("as a pipeline", "DenyOtherPackagers", who=pipeline)] if repaired != artifact else []),
            plain,
            context=tls | with_the_key,
        )
    may(
        "writes a manifest with keys of S3",
        checker,
        "s3:PutObject",
        manifest,
        *([but("in place of an artifact", "DenyOtherAlgorithms", to=artifact)] if account != T else []),
        context=tls | with_keys_of_s3,
    )
    # Whoever may write artifacts may also write among the reports, but not with keys of S3, which a manifest needs.
    for headers in ({}, with_the_key):
        may(
            "writes among the reports under the right key",
            pipeline,
            "s3:PutObject",
            manifest,
            *(
                but(what, "DenyOtherAlgorithmsInReports", context={SSE: algorithm, SSE_KEY: None})
                for what, algorithm in (
                    ("with keys of S3", "AES256"),
                    ("with two layers of encryption", "aws:kms:dsse"),
                )
                if account != T
            ),
            plain,
            context=tls | headers,
        )
    never(
        "does not write under another key",
        batch,
        "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo",
        arn("kms", account, "key/somebodys"),
    )
    never(
        "deletes and copies nothing, and reads no artifact",
        batch,
        "s3:DeleteObject s3:PutObjectTagging s3:GetObject",
        artifact,
        context=tls,
    )
