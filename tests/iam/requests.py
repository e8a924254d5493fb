"""What the system does and may do, request by request, and beside each the nearest thing that it may not.

A principal of ours has the policies of its role; anybody else is an administrator of their own account. A resource of ours
has its own policy; anybody else's lets in whom the caller's account lets go. Each border is tried from each side alone: what
the identity must refuse is asked of a resource that lets it in, what the resource must refuse is asked by an administrator.
"""

from dataclasses import dataclass, field

REGION = "ap-northeast-1"
R, T, P, STRANGER = "111111111111", "222222222222", "333333333333", "999999999999"


@dataclass(frozen=True)
class Request:
    """One request and its expected outcome; `why` is the side, or the Sid of the Deny, that refuses it."""

    what: str
    who: str
    does: str
    to: str | None
    account: str
    context: dict = field(hash=False)
    why: str | None = None

    def __str__(self):
        return f"{self.what}: {self.does}" + (f" (no: {self.why})" if self.why else "")


REQUESTS: list[Request] = []


def may(what, who, does, to, *misses, context=None):
    """Each of the actions is allowed; each miss differs in what it names, and is refused for its `why`."""
    context = context or {}
    for action in does.split():
        REQUESTS.append(Request(what, who, action, to, account_of(to, who), context))
        for miss in misses:
            other = {"who": who, "to": to, "does": action, "context": {}} | miss
            merged = {key: value for key, value in (context | other["context"]).items() if value is not None}
            target = other["to"]
            REQUESTS.append(Request(f"{what}, but {miss['but']}", other["who"], other["does"], target, account_of(target, other["who"]),
                                    merged, miss["why"]))


def never(what, who, does, to=None, why="identity", context=None):
    """None of the actions is allowed."""
    for action in does.split():
        REQUESTS.append(Request(what, who, action, to, account_of(to, who), context or {}, why))


def but(what, why, **other):
    return {"but": what, "why": why, **other}


def account_of(resource, who):
    """The account that a resource is in: buckets carry it in their name, the rest in the ARN; else the caller's own."""
    parts = (resource or "").split(":")
    if len(parts) > 4 and parts[4].isdigit():
        return parts[4]
    if ":s3:::sekisho-artifacts-" in (resource or ""):
        return parts[5].split("-")[2]
    return who.split(":")[4] if who.startswith("arn:") else P


def role(account, what, region=REGION):
    return f"arn:aws:iam::{account}:role/sekisho-{what}-{region}"


def arn(service, account, rest, region=REGION):
    return f"arn:aws:{service}:{region}:{account}:{rest}"


def bucket(account):
    return f"arn:aws:s3:::sekisho-artifacts-{account}-{REGION}"


KEY = {account: arn("kms", account, "key/artifacts") for account in (T, P)}  # made real by the test, which knows the ids
VIA_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
def not_through_s3():
    return [but(f"not through S3 ({why})", why, context={"kms:ViaService": None}) for why in ("identity", "resource")]


# ---- What every function does ------------------------------------------------------------------------------------------

for account, what, function in [(R, "event-relay", "sekisho-event-relay"), (T, "pipeline-starter", "sekisho-pipeline-starter"),
                                (P, "pipeline-starter", "sekisho-pipeline-starter"), (T, "artifact-checker", "sekisho-artifact-checker"),
                                (P, "artifact-checker", "sekisho-artifact-checker"), (P, "temp-access", "temp-access")]:
    who = role(account, what)
    logs = "log-group:/aws/lambda/{}:log-stream:one"
    may("logs", who, "logs:CreateLogStream logs:PutLogEvents", arn("logs", account, logs.format(function)),
        but("in another function's log", "identity", to=arn("logs", account, logs.format("shop-api"))))
    more = {"temp-access": " dynamodb:Query dynamodb:DeleteItem", "artifact-checker": ""}.get(what, " dynamodb:Query")
    may("uses the ledger", who, f"dynamodb:GetItem dynamodb:PutItem{more}",
        arn("dynamodb", account, "table/sekisho-ledger"),
        but("another table", "identity", to=arn("dynamodb", account, "table/orders")))
    if what != "temp-access":
        queue = arn("sqs", account, f"{function}-dead-letters")
        may("gives up on an event", who, "sqs:SendMessage", queue,
            but("in another queue", "identity", to=arn("sqs", account, "orders")))
    if what != "event-relay":
        may("tells people", who, "sns:Publish", arn("sns", account, "sekisho-notices"),
            but("on another topic", "identity", to=arn("sns", account, "orders")))
    may("takes its role", "lambda.amazonaws.com", "sts:AssumeRole", who,
        but("as another service", "resource", who="ec2.amazonaws.com"),
        but("as somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"))

RULES = {
    R: {"sekisho-event-relay": ["sekisho-repository-change", "sekisho-pull-request-merge", "sekisho-reconcile"]},
    T: {"sekisho-pipeline-starter": ["sekisho/sekisho-source-change", "sekisho-pipeline-end"],
        "sekisho-artifact-checker": ["sekisho-artifact-write", "sekisho-artifact-sweep"]},
    P: {"sekisho-pipeline-starter": ["sekisho/sekisho-source-change", "sekisho-pipeline-end"],
        "sekisho-artifact-checker": ["sekisho-artifact-write", "sekisho-artifact-sweep"], "temp-access": ["sekisho-access-sweep"]},
}
for account, functions in RULES.items():
    for function, rules in functions.items():
        for rule in rules:
            by = {"aws:SourceArn": arn("events", account, f"rule/{rule}"), "aws:SourceAccount": account}
            other = but("for another rule", "resource", context={"aws:SourceArn": arn("events", account, "rule/other")})
            may("invokes by its rule", "events.amazonaws.com", "lambda:InvokeFunction", arn("lambda", account, f"function:{function}"),
                other, but("as another service", "resource", who="s3.amazonaws.com"), context=by)
            if function != "temp-access":
                may("gives up on a delivery", "events.amazonaws.com", "sqs:SendMessage", arn("sqs", account, f"{function}-dead-letters"),
                    other, but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
                    but("as another service", "resource", who="s3.amazonaws.com"), context=by)
for account in (R, T, P):
    may("raises an alarm", "cloudwatch.amazonaws.com", "sns:Publish", arn("sns", account, "sekisho-notices"),
        but("another alarm", "resource", context={"aws:SourceArn": arn("cloudwatch", account, "alarm:orders")}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("as another service", "resource", who="s3.amazonaws.com"),
        context={"aws:SourceArn": arn("cloudwatch", account, "alarm:sekisho-event-relay-errors"), "aws:SourceAccount": account})

# ---- Repository account → pipeline account: the bus ----------------------------------------------------------------------

RELAY = role(R, "event-relay")
SHOP = arn("codecommit", R, "shop")
may("reads a repository", RELAY, "codecommit:GetBranch codecommit:GetDifferences codecommit:ListBranches", SHOP,
    but("of another region", "identity", to=arn("codecommit", R, "shop", "eu-west-1")))
may("looks for repositories", RELAY, "codecommit:ListRepositories", None)
never("doesn't write to a repository", RELAY, "codecommit:GitPush codecommit:CreateCommit codecommit:DeleteBranch", SHOP)
for account in (T, P):
    may("relays a change", RELAY, "events:PutEvents", arn("events", account, "event-bus/sekisho"),
        but("on the default bus", "identity", to=arn("events", account, "event-bus/default")),
        but("on a stranger's bus that lets everybody in", "identity", to=arn("events", STRANGER, "event-bus/sekisho")),
        but("as AWS itself", "resource", context={"events:source": "aws.codecommit"}),
        but("as another kind of event", "resource", context={"events:detail-type": "Deploy"}),
        but("without a source", "resource", context={"events:source": None}),
        but("without a kind", "resource", context={"events:detail-type": None}),
        but("by another role of that account", "resource", who=f"arn:aws:iam::{R}:role/admin"),
        but("by a stranger's role of the same name", "resource", who=role(STRANGER, "event-relay")),
        context={"events:source": "sekisho.relay", "events:detail-type": "Source Change"})

# ---- Pipeline account → repository account: the source action, its artifact and the key ----------------------------------

SOURCE = role(R, "source-action")
for account in (T, P):
    pipeline = role(account, "pipeline")
    may("takes the source action's role", pipeline, "sts:AssumeRole", SOURCE,
        but("a stranger's", "identity", to=role(STRANGER, "source-action")),
        but("another role of the repository account", "identity", to=f"arn:aws:iam::{R}:role/admin"),
        but("as another role of this account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
        but("as pipeline-starter", "resource", who=role(account, "pipeline-starter")),
        but("as a stranger's pipeline", "resource", who=role(STRANGER, "pipeline")))
    object_ = bucket(account) + "/shop/Source/abc.zip"
    encrypted = {"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY[account], "aws:SecureTransport": "true"}
    may("puts the source", SOURCE, "s3:PutObject", object_,
        but("into a stranger's bucket that lets everybody in", "identity", to=f"arn:aws:s3:::sekisho-artifacts-{STRANGER}-{REGION}/shop/Source/abc.zip"),
        but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"}),
        but("as another role of that account", "resource", who=f"arn:aws:iam::{R}:role/admin"),
        but("as a stranger's role of the same name", "resource", who=role(STRANGER, "source-action")),
        *([but("under another key", "DenyOtherKeys", context={"s3:x-amz-server-side-encryption-aws-kms-key-id": arn("kms", R, "key/other")}),
           but("without a key", "DenyOtherKeys", context={"s3:x-amz-server-side-encryption-aws-kms-key-id": None})] if account == P else []),
        context=encrypted)
    may("hands the source to the bucket's account", SOURCE, "s3:PutObjectAcl", object_,
        but("as another role of that account", "resource", who=f"arn:aws:iam::{R}:role/admin"), context={"aws:SecureTransport": "true"})
    never("doesn't read artifacts", SOURCE, "s3:GetObject s3:DeleteObject", object_, context={"aws:SecureTransport": "true"})
    may("encrypts the source", SOURCE, "kms:GenerateDataKey kms:Decrypt", KEY[account],
        but("under a stranger's key", "identity", to=arn("kms", STRANGER, "key/artifacts")),
        *not_through_s3(), but("through S3 of another region", "resource", context={"kms:ViaService": "s3.eu-west-1.amazonaws.com"}),
        but("as another role of that account", "resource", who=f"arn:aws:iam::{R}:role/admin"),
        but("as a stranger's role of the same name", "resource", who=role(STRANGER, "source-action")), context=VIA_S3)
    never("doesn't go further with the key", SOURCE, "kms:Encrypt kms:CreateGrant kms:DescribeKey", KEY[account], context={})
may("reads the source", SOURCE,
    "codecommit:CancelUploadArchive codecommit:GetBranch codecommit:GetCommit codecommit:GetUploadArchiveStatus codecommit:UploadArchive", SHOP,
    but("of another region", "identity", to=arn("codecommit", R, "shop", "eu-west-1")))
never("doesn't write to a repository", SOURCE, "codecommit:GitPush codecommit:GitPull codecommit:DeleteBranch", SHOP)

# ---- Pipeline account: starter, key, pipeline, build, deployment ---------------------------------------------------------

for account in (T, P):
    starter, pipeline, build, cloudformation = (role(account, what) for what in ("pipeline-starter", "pipeline", "build", "cloudformation"))
    checker = role(account, "artifact-checker")
    artifacts, key = bucket(account), KEY[account]
    tls = {"aws:SecureTransport": "true"}
    plain = but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"})
    elsewhere = but("of another bucket", "identity", to="arn:aws:s3:::somebodys-bucket/one.zip")
    shop = arn("codepipeline", account, "shop")
    may("starts a pipeline", starter, "codepipeline:StartPipelineExecution codepipeline:GetPipelineExecution codepipeline:ListActionExecutions codepipeline:ListPipelineExecutions", shop,
        but("of another region", "identity", to=arn("codepipeline", account, "shop", "eu-west-1")))
    never("doesn't change a pipeline", starter, "codepipeline:UpdatePipeline codepipeline:DeletePipeline codepipeline:PutApprovalResult")

    for who, service, source, other in [
        (pipeline, "codepipeline.amazonaws.com", arn("codepipeline", account, "shop"), arn("codepipeline", account, "shop", "eu-west-1")),
        (build, "codebuild.amazonaws.com", arn("codebuild", account, "project/shop"), arn("codebuild", account, "project/other")),
        (cloudformation, "cloudformation.amazonaws.com", arn("cloudformation", account, "stack/shop/1"), arn("cloudformation", account, "stack/other/1")),
    ]:
        may("is taken by its service", service, "sts:AssumeRole", who,
            but("for something else", "resource", context={"aws:SourceArn": other}),
            but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
            but("by another service", "resource", who="ec2.amazonaws.com"),
            but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
            context={"aws:SourceArn": source, "aws:SourceAccount": account})

    write = tls | {"s3:x-amz-server-side-encryption-aws-kms-key-id": key}
    for who in (pipeline, build, cloudformation, checker):
        may("reads artifacts", who, "s3:GetObject s3:GetObjectVersion", artifacts + "/shop/one.zip", elsewhere, plain, context=tls)
    for who in (pipeline, build, checker):
        may("writes artifacts", who, "s3:PutObject", artifacts + "/shop/one.zip", elsewhere, plain,
            *([but("under another key", "DenyOtherKeys", context={"s3:x-amz-server-side-encryption-aws-kms-key-id": arn("kms", account, "key/other")}),
               but("without a key", "DenyOtherKeys", context={"s3:x-amz-server-side-encryption-aws-kms-key-id": None})] if account == P else []),
            context=write)
    if account == T:
        may("lets a wrong write in, to be mended", pipeline, "s3:PutObject", artifacts + "/shop/one.zip", context=tls)
    may("finds the bucket", pipeline, "s3:GetBucketLocation s3:GetBucketVersioning", artifacts,
        but("another one", "identity", to="arn:aws:s3:::somebodys-bucket"), plain, context=tls)
    for who, actions in [(pipeline, "kms:Decrypt kms:GenerateDataKey"), (build, "kms:Decrypt kms:GenerateDataKey"), (cloudformation, "kms:Decrypt"),
                         (checker, "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:ReEncryptFrom kms:ReEncryptTo")]:
        may("uses the key", who, actions, key, *not_through_s3(),
            but("as an administrator of the account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
            but("through S3 of another region", "identity", context={"kms:ViaService": "s3.eu-west-1.amazonaws.com"}), context=VIA_S3)
    never("doesn't use the key directly, even as an administrator", f"arn:aws:iam::{account}:role/admin",
          "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:CreateGrant", key, why="resource")
    never("doesn't use the key for others", f"arn:aws:iam::{account}:role/admin", "kms:Decrypt", key, why="resource",
          context={"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"})
    may("administers the key", f"arn:aws:iam::{account}:role/admin",
        "kms:CancelKeyDeletion kms:CreateAlias kms:DeleteAlias kms:DescribeKey kms:DisableKey kms:EnableKey kms:EnableKeyRotation "
        "kms:GetKeyPolicy kms:GetKeyRotationStatus kms:ListGrants kms:ListKeyPolicies kms:ListResourceTags "
        "kms:PutKeyPolicy kms:RevokeGrant kms:ScheduleKeyDeletion kms:TagResource kms:UntagResource kms:UpdateAlias kms:UpdateKeyDescription",
        key, but("from another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/admin"))
    other_key = arn("kms", account, "key/somebodys")
    for who in (pipeline, build, cloudformation):
        never("doesn't use another key", who, "kms:Decrypt", other_key, context=VIA_S3)
    never("doesn't write under another key", checker, "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo", other_key, context=VIA_S3)

    build_logs = arn("logs", account, "log-group:/aws/codebuild/shop:log-stream:one")
    may("logs a build", build, "logs:CreateLogStream logs:PutLogEvents", build_logs,
        but("in another project's log", "identity", to=arn("logs", account, "log-group:/aws/codebuild/other:log-stream:one")))
    may("builds", pipeline, "codebuild:StartBuild codebuild:BatchGetBuilds", arn("codebuild", account, "project/shop"),
        but("another project", "identity", to=arn("codebuild", account, "project/other")))
    may("deploys by change set", pipeline,
        "cloudformation:CreateChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeChangeSet cloudformation:DescribeStacks cloudformation:ExecuteChangeSet",
        arn("cloudformation", account, "stack/shop/1"), but("our own stack", "identity", to=arn("cloudformation", account, "stack/sekisho/1")))
    may("deploys as CloudFormation's role", pipeline, "iam:PassRole", cloudformation,
        but("another role", "identity", to=f"arn:aws:iam::{account}:role/admin"),
        but("to another service", "identity", context={"iam:PassedToService": "lambda.amazonaws.com"}),
        context={"iam:PassedToService": "cloudformation.amazonaws.com"})
    may("asks for approval", pipeline, "sns:Publish", arn("sns", account, "sekisho-notices"),
        but("on another topic", "identity", to=arn("sns", account, "orders")))

    function, group = arn("lambda", account, "function:shop-Hello-1A2B"), arn("logs", account, "log-group:/aws/lambda/shop-Hello-1A2B")
    application = f"arn:aws:iam::{account}:role/shop-HelloRole-1A2B"
    basic = {"iam:PolicyARN": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
    may("makes a function", cloudformation,
        "lambda:AddPermission lambda:CreateFunction lambda:DeleteFunction lambda:GetFunction lambda:GetFunctionConfiguration lambda:ListTags "
        "lambda:RemovePermission lambda:TagResource lambda:UntagResource lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration", function,
        but("of our own", "identity", to=arn("lambda", account, "function:temp-access")))
    may("makes its log", cloudformation,
        "logs:CreateLogGroup logs:DeleteLogGroup logs:ListTagsForResource logs:PutRetentionPolicy logs:TagResource", group,
        but("of our own", "identity", to=arn("logs", account, "log-group:/aws/lambda/temp-access")))
    may("makes its role", cloudformation,
        "iam:CreateRole iam:DeleteRole iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies iam:TagRole iam:UntagRole", application,
        but("one of ours", "identity", to=role(account, "pipeline")))
    may("lets it log", cloudformation, "iam:AttachRolePolicy iam:DetachRolePolicy", application,
        but("makes it an administrator", "identity", context={"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"}),
        but("one of ours", "identity", to=role(account, "pipeline")), context=basic)
    may("gives it to the function", cloudformation, "iam:PassRole", application,
        but("to another service", "identity", context={"iam:PassedToService": "ec2.amazonaws.com"}),
        but("one of ours", "identity", to=role(account, "pipeline")), context={"iam:PassedToService": "lambda.amazonaws.com"})
    never("doesn't change our own stack", cloudformation, "cloudformation:CreateChangeSet", arn("cloudformation", account, "stack/sekisho/1"))
    never("doesn't write its own rights", cloudformation, "iam:PutRolePolicy iam:UpdateAssumeRolePolicy iam:PutRolePermissionsBoundary", application)

    # artifact-checker
    may("looks at the bucket", checker, "s3:GetEncryptionConfiguration s3:ListBucket s3:ListBucketVersions", artifacts,
        but("another one", "identity", to="arn:aws:s3:::somebodys-bucket"), plain, context=tls)
    may("looks at an artifact and mends it", checker,
        "s3:AbortMultipartUpload s3:GetObjectLegalHold s3:GetObjectRetention s3:GetObjectTagging s3:GetObjectVersionTagging s3:PutObjectTagging s3:UpdateObjectEncryption",
        artifacts + "/shop/one.zip", elsewhere, plain, context=tls)
    never("doesn't delete artifacts", checker, "s3:DeleteObject s3:DeleteObjectVersion s3:PutObjectAcl", artifacts + "/shop/one.zip", context=tls)
    may("reads under the wrong key", checker, "kms:Decrypt kms:ReEncryptFrom", other_key,
        but("not through S3", "identity", context={"kms:ViaService": None}),
        but("of another account that lets everybody in", "identity", to=arn("kms", STRANGER, "key/one")), context=VIA_S3)
    may("looks at a key", checker, "kms:DescribeKey", key,
        but("of another region", "identity", to=arn("kms", account, "key/one", "eu-west-1")))
    may("looks for pipelines", checker, "codepipeline:ListPipelines", None)
    may("looks at pipelines", checker, "codepipeline:GetPipeline codepipeline:ListActionExecutions", shop,
        but("of another region", "identity", to=arn("codepipeline", account, "shop", "eu-west-1")))
    may("goes on with a sweep", checker, "lambda:InvokeFunction", arn("lambda", account, "function:sekisho-artifact-checker"),
        but("by another function", "identity", to=arn("lambda", account, "function:temp-access")))
may("reads as the consumer", role(P, "artifact-checker"), "sts:AssumeRole", f"arn:aws:iam::{P}:role/consumer",
    but("as anybody else", "identity", to=f"arn:aws:iam::{P}:role/admin"))
never("reads as nobody else where no consumer is named", role(T, "artifact-checker"), "sts:AssumeRole", f"arn:aws:iam::{T}:role/consumer")

# ---- Access: temp-access, chat, and who is let in ------------------------------------------------------------------------

ACCESS, USER, GRANTED_ROLE = role(P, "temp-access"), f"arn:aws:iam::{P}:user/prd-user", f"arn:aws:iam::{P}:role/support"
BOUNDARY = f"arn:aws:iam::{P}:policy/sekisho-access-boundary"
GRANTABLE = {"aws:ResourceTag/sekisho:access": "grantable", "iam:PermissionsBoundary": BOUNDARY}
for kind, principal in (("User", USER), ("Role", GRANTED_ROLE)):
    may("looks at a principal", ACCESS, f"iam:Get{kind} iam:Get{kind}Policy iam:List{kind}Policies", principal,
        but("of another account", "identity", to=principal.replace(P, STRANGER)))
    may("lets in and out", ACCESS, f"iam:Put{kind}Policy iam:Delete{kind}Policy", principal,
        but("who has no tag", "identity", context={"aws:ResourceTag/sekisho:access": None}),
        but("whose tag says otherwise", "identity", context={"aws:ResourceTag/sekisho:access": "no"}),
        but("who has no boundary", "identity", context={"iam:PermissionsBoundary": None}),
        but("who has another boundary", "identity", context={"iam:PermissionsBoundary": f"arn:aws:iam::{P}:policy/other"}),
        but("of another account", "identity", to=principal.replace(P, STRANGER)), context=GRANTABLE)
    never("doesn't make anybody grantable", ACCESS, f"iam:Tag{kind} iam:Put{kind}PermissionsBoundary iam:Delete{kind}PermissionsBoundary iam:Attach{kind}Policy", principal, context={})

may("looks for grants", ACCESS, "iam:GetAccountAuthorizationDetails", None)

CHAT = role(P, "chat")
may("is taken by Chatbot", "chatbot.amazonaws.com", "sts:AssumeRole", CHAT,
    but("for another channel", "resource", context={"aws:SourceArn": f"arn:aws:chatbot::{P}:chat-configuration/slack-channel/orders"}),
    but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
    but("by another service", "resource", who="ec2.amazonaws.com"), but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
    context={"aws:SourceArn": f"arn:aws:chatbot::{P}:chat-configuration/slack-channel/sekisho-{P}-{REGION}", "aws:SourceAccount": P})
may("asks in chat", CHAT, "lambda:InvokeFunction", arn("lambda", P, "function:temp-access"),
    but("for another function", "identity", to=arn("lambda", P, "function:shop-api")))
never("does nothing else in chat", CHAT, "lambda:UpdateFunctionCode iam:GetUser s3:ListAllMyBuckets")

NOW = {"aws:CurrentTime": "2026-11-21T12:00:00Z"}  # inside the window of the grant in test_requests.py
may("works inside the window", USER, "ec2:StopInstances rds:RebootDBInstance s3:GetObject lambda:InvokeFunction logs:FilterLogEvents ssm:StartSession", None,
    but("before it", "identity", context={"aws:CurrentTime": "2026-11-21T08:00:00Z"}),
    but("after it", "identity", context={"aws:CurrentTime": "2026-11-21T16:00:00Z"}), context=NOW)
never("tries to stay: as somebody", USER, why="Identities", context=NOW, does=(
    "account:PutAlternateContact iam:AddUserToGroup iam:AttachUserPolicy iam:ChangePassword iam:CreateAccessKey iam:CreateLoginProfile iam:CreateUser "
    "iam:DeleteUserPermissionsBoundary iam:DeleteUserPolicy iam:EnableMFADevice iam:PassRole iam:PutUserPolicy iam:PutUserPermissionsBoundary "
    "iam:RemoveRoleFromInstanceProfile iam:SetDefaultPolicyVersion iam:TagUser iam:UntagUser iam:UpdateAssumeRolePolicy iam:UpdateLoginProfile "
    "identitystore:CreateUser organizations:LeaveOrganization ram:CreateResourceShare rolesanywhere:CreateTrustAnchor sso:CreateAccountAssignment "
    "sso-directory:CreateUser sts:AssumeRoot sts:GetFederationToken"))
may("takes a role that is listed", USER, "sts:AssumeRole", f"arn:aws:iam::{STRANGER}:role/support",
    but("any other", "OtherRoles", to=f"arn:aws:iam::{P}:role/admin"), context=NOW)
never("tries to stay: by code under another role", USER, why="CodeUnderOtherRoles", context=NOW, does=(
    "amplify:CreateDeployment amplify:StartJob amplify:UpdateApp apprunner:CreateService apprunner:UpdateService appsync:CreateApiKey appsync:UpdateResolver autoscaling:CreateLaunchConfiguration "
    "batch:RegisterJobDefinition batch:SubmitJob chatbot:CreateSlackChannelConfiguration chatbot:UpdateSlackChannelConfiguration cloud9:CreateEnvironmentEC2 "
    "cloud9:UpdateEnvironment cloudformation:ActivateType cloudformation:CreateChangeSet cloudformation:CreateStack cloudformation:ExecuteChangeSet "
    "cloudformation:ImportStacksToStackSet cloudformation:RegisterType cloudformation:SetStackPolicy cloudformation:UpdateStack codebuild:CreateWebhook "
    "codebuild:UpdateWebhook codebuild:DeleteWebhook codebuild:CreateProject codebuild:PutResourcePolicy codebuild:RetryBuild codebuild:StartBuild codebuild:UpdateProject "
    "codecommit:CreateCommit codecommit:GitPush codecommit:MergePullRequestByFastForward codecommit:PutFile "
    "config:PutRemediationConfigurations config:StartRemediationExecution "
    "codedeploy:CreateDeployment codedeploy:UpdateDeploymentGroup codepipeline:CreatePipeline codepipeline:EnableStageTransition codepipeline:OverrideStageCondition "
    "codepipeline:PutApprovalResult codepipeline:RetryStageExecution codepipeline:StartPipelineExecution codepipeline:UpdatePipeline datapipeline:ActivatePipeline "
    "datapipeline:CreatePipeline datapipeline:PutPipelineDefinition ec2:AssociateIamInstanceProfile ec2:CreateLaunchTemplateVersion ec2:ModifyInstanceAttribute "
    "ecr:PutImage emr-containers:StartJobRun ec2:ModifyLaunchTemplate ec2:ReplaceIamInstanceProfileAssociation ecs:RegisterTaskDefinition ecs:RunTask ecs:StartTask elasticbeanstalk:CreateApplicationVersion "
    "airflow:CreateCliToken airflow:UpdateEnvironment chatbot:AssociateToConfiguration chatbot:RedeemSlackOauthCode ec2:CreateReplaceRootVolumeTask "
    "kinesisanalytics:CreateApplication kinesisanalytics:UpdateApplication lightsail:CreateInstances ssm:CreateMaintenanceWindow "
    "ssm:RegisterTaskWithMaintenanceWindow ssm:UpdateMaintenanceWindowTask "
    "elasticbeanstalk:UpdateEnvironment elasticmapreduce:AddJobFlowSteps events:PutRule events:PutTargets glue:CreateJob glue:RunStatement glue:StartJobRun "
    "glue:UpdateJob imagebuilder:CreateImage imagebuilder:StartImagePipelineExecution imagebuilder:UpdateImagePipeline lambda:AddPermission lambda:CreateFunction "
    "lambda:PublishLayerVersion lambda:PutFunctionConcurrency lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration pipes:CreatePipe pipes:UpdatePipe "
    "sagemaker:CreatePresignedNotebookInstanceUrl sagemaker:UpdateNotebookInstance scheduler:CreateSchedule scheduler:UpdateSchedule ssm:CreateActivation "
    "ssm:CreateAssociation ssm:CreateDocument ssm:StartAutomationExecution ssm:StartChangeRequestExecution ssm:UpdateAssociation ssm:UpdateDocument "
    "servicecatalog:CreateProduct servicecatalog:ExecuteProvisionedProductServiceAction servicecatalog:ProvisionProduct servicecatalog:UpdateProvisionedProduct "
    "synthetics:CreateCanary synthetics:StartCanary synthetics:UpdateCanary states:CreateStateMachine states:PublishStateMachineVersion states:UpdateStateMachine"))
never("tries to come back: by a door from outside", USER, why="DoorsFromOutside", context=NOW, does=(
    "codeartifact:PutDomainPermissionsPolicy eks:AssociateIdentityProviderConfig glacier:SetVaultAccessPolicy grafana:CreateWorkspaceApiKey "
    "grafana:UpdatePermissions iot:AttachPolicy iot:CreateCertificateFromCsr iot:CreateKeysAndCertificate iot:CreatePolicyVersion iot:RegisterCertificate "
    "kafka:PutClusterPolicy lightsail:SetResourceAccessForBucket redshift-serverless:PutResourcePolicy redshift:PutResourcePolicy "
    "s3-object-lambda:PutObjectAcl s3-outposts:PutBucketPolicy s3:PutAccessPointConfigurationForObjectLambda s3express:PutBucketPolicy s3tables:PutTableBucketPolicy "
    "sagemaker:PutModelPackageGroupPolicy vpc-lattice:PutResourcePolicy "
    "acm-pca:IssueCertificate acm-pca:PutPolicy aoss:CreateAccessPolicy cognito-identity:CreateIdentityPool cognito-identity:SetIdentityPoolRoles "
    "cognito-identity:UpdateIdentityPool eks:AssociateAccessPolicy eks:CreateAccessEntry eks:UpdateAccessEntry es:AuthorizeVpcEndpointAccess es:UpdateDomainConfig "
    "events:PutPermission transfer:CreateUser transfer:ImportSshPublicKey transfer:UpdateUser apigateway:UpdateRestApiPolicy backup:PutBackupVaultAccessPolicy dynamodb:PutResourcePolicy ec2:ModifyImageAttribute ec2:ModifySnapshotAttribute "
    "ec2:ModifyVpcEndpointServicePermissions ecr:PutRegistryPolicy ecr:SetRepositoryPolicy elasticfilesystem:PutFileSystemPolicy glue:PutResourcePolicy "
    "kinesis:PutResourcePolicy kms:PutKeyPolicy kms:ReplicateKey lakeformation:GrantPermissions lakeformation:PutDataLakeSettings logs:PutResourcePolicy "
    "rds:ModifyDBSnapshotAttribute redshift:AuthorizeDataShare s3:PutReplicationConfiguration s3:CreateAccessPoint s3:PutBucketAcl s3:PutBucketPublicAccessBlock "
    "s3:PutBucketOwnershipControls s3:PutBucketPolicy secretsmanager:PutResourcePolicy ses:CreateEmailIdentityPolicy ses:PutIdentityPolicy "
    "ses:UpdateEmailIdentityPolicy sns:AddPermission sns:SetTopicAttributes sqs:AddPermission sqs:SetQueueAttributes ssm:ModifyDocumentPermission ssm:PutResourcePolicy"))
may("lets AWS use a key for a volume", USER, "kms:CreateGrant", arn("kms", P, "key/volumes"),
    but("grants it to somebody", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": "false"}),
    but("grants it without saying", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": None}), context=NOW | {"kms:GrantIsForAWSResource": "true"})
never("covers the tracks", USER, "chatbot:DeleteSlackChannelConfiguration cloudtrail:DeleteTrail cloudtrail:PutEventSelectors cloudtrail:StopLogging cloudtrail:UpdateTrail", why="Traces", context=NOW)
for action, resource in [
    ("cloudformation:DeleteStack", arn("cloudformation", P, "stack/sekisho/1")), ("cloudwatch:DeleteAlarms", arn("cloudwatch", P, "alarm:sekisho-temp-access-errors")),
    ("cloudwatch:DeleteDashboards", f"arn:aws:cloudwatch::{P}:dashboard/sekisho-{REGION}"), ("dynamodb:PutItem", arn("dynamodb", P, "table/sekisho-ledger")),
    ("events:DeleteEventBus", arn("events", P, "event-bus/sekisho")), ("events:DisableRule", arn("events", P, "rule/sekisho-access-sweep")),
    ("iam:GetPolicy", BOUNDARY), ("iam:GetRole", role(P, "temp-access")), ("lambda:InvokeFunction", arn("lambda", P, "function:sekisho-pipeline-starter")),
    ("lambda:InvokeFunction", arn("lambda", P, "function:temp-access")), ("lambda:DeleteLayerVersion", arn("lambda", P, "layer:sekisho-config:1")),
    ("logs:DeleteLogGroup", arn("logs", P, "log-group:/aws/lambda/sekisho-pipeline-starter")), ("logs:DeleteLogGroup", arn("logs", P, "log-group:/aws/lambda/temp-access")),
    ("s3:DeleteObject", bucket(P) + "/shop/one.zip"), ("sns:DeleteTopic", arn("sns", P, "sekisho-notices")),
    ("sqs:PurgeQueue", arn("sqs", P, "sekisho-pipeline-starter-dead-letters")), ("kms:ScheduleKeyDeletion", KEY[P]),
]:
    never("turns on the checkpoint itself", USER, action, resource, why="ThisStack", context=NOW)
