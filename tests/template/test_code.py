"""The template gives each function exactly the environment, actions and resources that the function's code uses."""

import re

import botocore.session
import pytest
from botocore import xform_name

from tests.template import deployed
from tests.template.policies import listed
from tests.template.test_template import NAMES

FUNCTIONS = deployed.ROOT / "functions"
SHARED = deployed.ROOT / "shared" / "lambda" / "src"
# The constants that name environment variables, each with the name of its variable.
VARIABLES = dict(re.findall(r'const ([A-Z0-9_]+): &str = "([A-Z0-9_]+)";', (SHARED / "environment.rs").read_text()))
# For each method of the ledger, the operation of DynamoDB that the method calls.
LEDGER = {
    "read": "GetItem",
    "read_many": "BatchGetItem",
    "write": "PutItem",
    # DynamoDB authorizes each put of a TransactWriteItems as PutItem.
    "write_all": "PutItem",
    "record": "PutItem",
    "list": "Query",
    "each": "Query",
    "delete": "DeleteItem",
}
# For each call, the permissions that the call needs, if their names differ from the name of the call.
NEEDS = {
    "s3:HeadObject": ["s3:GetObject", "s3:GetObjectLegalHold", "s3:GetObjectRetention"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3:GetPublicAccessBlock": ["s3:GetBucketPublicAccessBlock"],
    "s3:GetObject": ["s3:GetObject", "s3:GetObjectVersion"],
    "s3:GetObjectTagging": ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"],
    "s3:CopyObject": [
        "s3:PutObject",
        "s3:PutObjectAnnotation",
        "s3:PutObjectTagging",
        "s3:GetObjectAnnotation",
        "s3:GetObjectVersion",
    ],
    "s3:ListParts": ["s3:ListMultipartUploadParts"],
    "s3:CreateMultipartUpload": ["s3:PutObject", "s3:PutObjectTagging"],
    "s3:CompleteMultipartUpload": ["s3:PutObject"],
    "s3:UploadPart": ["s3:PutObject"],
    "s3:UploadPartCopy": ["s3:PutObject", "s3:GetObjectVersion"],
    # S3 calls KMS with the caller's permissions, so the caller also needs permissions for the key.
    "s3:UpdateObjectEncryption": [
        "s3:UpdateObjectEncryption",
        "s3:PutObject",
        "kms:Decrypt",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    ],
    # The job gets a role.
    "s3:CreateJob": ["s3:CreateJob", "iam:PassRole"],
    "lambda:invocations": ["lambda:InvokeFunction"],
}
# The calls that a function signs without the SDK's crate of the service: a pattern for the call in the code, by the id
# of the service.
SIGNED = {
    "CodeBuild": r"CodeBuild_20161006\.(BatchGetBuilds)\"",
    "CodePipeline": r"call\(codepipeline, \"(\w+)\"",
    "SQS": r"AmazonSQS\.(SendMessage)\"",
    "STS": r"\"Action=(AssumeRole)&Version=",
    "SSM": r"\"AmazonSSM\.(DescribeSessions|TerminateSession)\"",
    "CloudTrail": r"CloudTrail_20131101\.(LookupEvents)\"",
    "Lambda": r"/2015-03-31/functions/\{\}/(invocations)\"",
    "identitystore": r"\"AWSIdentityStore\.(GetUserId)\"",
}
# The calls of S3 Control, whose actions have the prefix s3. shared/lambda names the service.
S3_CONTROL = {"s3:CreateJob": r"\bs3_control::create\(", "s3:DescribeJob": r"\bs3_control::describe\("}
# For these actions, Lambda itself uses the function's role. The function's code does not contain the calls.
BY_LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents"}
# With these, Lambda takes messages out of the queue of an event source mapping.
TAKES_RANGES = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
# For each environment variable that names a resource: the service, and the resource in the policy.
RESOURCES_BY_VARIABLE = {
    "LEDGER_TABLE": ("dynamodb", "arn:aws:dynamodb:{region}:{account}:table/{value}"),
    "NOTICE_TOPIC_ARN": ("sns", "{value}"),
    "ARTIFACT_BUCKET": ("s3", "arn:aws:s3:::{value}"),
    "ARTIFACT_KEY_ARN": ("kms", "{value}"),
    "WINDOW_POLICY_ARN": ("iam", "{value}"),
    "SWEEP_QUEUE_URL": ("sqs", "arn:aws:sqs:{region}:{account}:{name}"),
    "IDENTITY_STORE_ID": ("identitystore", "arn:aws:identitystore::*:identitystore/{value}"),
    # The values of the next ones are no resources in a policy: a condition compares the boundary, and the functions
    # compare the accounts and call the region.
    "ACCESS_BOUNDARY_ARN": None,
    "HUB_ACCOUNT_ID": None,
    "IDENTITY_CENTER_REGION": None,
    "REPOSITORY_ACCOUNT_ID": None,
    "SWEEP_CONCURRENCY": None,
    # The C library's resolver reads these options, which name no resource.
    "RES_OPTIONS": None,
}
NAMES_THE_BUS = r'const BUS: &str = "sekisho"[\s\S]*event-bus/\{BUS\}'
# Other resources, by function: the service, the resource, and a pattern for the place in the code that names it.
NAMED = {
    "EventRelay": [
        # An event or a route names the repository.
        ("codecommit", "arn:aws:codecommit:{region}:{account}:*", r"get_branch\(\)\s*\.repository_name\((?!\")"),
        ("codecommit", "*", r"list_repositories\(\)"),
        ("ecr", "arn:aws:ecr:{region}:{account}:repository/*", r"describe_images\(\)\s*\.repository_name\((?!\")"),
        ("ecr", "*", r"describe_pull_through_cache_rules\(\)"),
        # A route names the account and the region of the bus.
        *(
            (
                "events",
                f"arn:aws:events:*:{account}:event-bus/sekisho",
                NAMES_THE_BUS,
            )
            for account in ("222222222222", "333333333333")
        ),
        # Lambda itself sends to this queue, so no place in the code names it.
        ("sqs", "arn:aws:sqs:{region}:{account}:sekisho-event-relay-dead-letters", ""),
    ],
    "PipelineStarter": [
        # A route names the pipeline.
        (
            "codepipeline",
            "arn:aws:codepipeline:{region}:{account}:*",
            r"start_pipeline_execution\(\)\s*\.name\((?!\")",
        ),
        # A route names the alarms, and composite alarms need every resource.
        ("cloudwatch", "*", r"describe_alarms\(\)"),
        # The event of an order names the account and the region of the repository, which has the bus for reports.
        ("events", "arn:aws:events:*:111111111111:event-bus/sekisho", NAMES_THE_BUS),
        # Lambda itself sends to this queue, so no place in the code names it.
        ("sqs", "arn:aws:sqs:{region}:{account}:sekisho-pipeline-starter-dead-letters", ""),
    ],
    "ArtifactChecker": [
        (
            "s3",
            "arn:aws:s3:::sekisho-artifacts-{account}-{region}/*",
            r"get_object\(\)\s*\.bucket\([^)]*\)\s*\.key\((?!\")",
        ),
        ("s3", "*", S3_CONTROL["s3:CreateJob"]),
        # S3 names the job.
        ("s3", "arn:aws:s3:{region}:{account}:job/*", S3_CONTROL["s3:DescribeJob"]),
        (
            "iam",
            "arn:aws:iam::{account}:role/sekisho-artifact-batch-{region}",
            r"iam::\{account\}:role/sekisho-artifact-batch-\{region\}",
        ),
        # An object may be encrypted with any key.
        ("kms", "arn:aws:kms:{region}:{account}:key/*", r"describe_key\(\)\s*\.key_id\((?!\")"),
        # An artifact may belong to any pipeline.
        ("codepipeline", "arn:aws:codepipeline:{region}:{account}:*", r"get_pipeline\(\)\s*\.name\((?!\")"),
        ("codepipeline", "*", r"list_pipelines\(\)"),
        ("codepipeline", "arn:aws:codepipeline:{region}:{account}:*", r"\"RetryStageExecution\""),
        # An action of a pipeline may run any project.
        ("codebuild", "arn:aws:codebuild:{region}:{account}:project/*", SIGNED["CodeBuild"]),
        ("events", "arn:aws:events:{region}:{account}:event-bus/default", r"event-bus/default"),
        ("sts", "arn:aws:iam::333333333333:role/consumer", r"&RoleArn=\{role\}"),
        ("sts", "arn:aws:iam::222222222222:role/reader", r"&RoleArn=\{role\}"),
        # Lambda itself sends to this queue, so no place in the code names it.
        ("sqs", "arn:aws:sqs:{region}:{account}:sekisho-artifact-checker-dead-letters", ""),
    ],
    "TempAccess": [
        # A request names the user or the role.
        ("iam", "arn:aws:iam::{account}:user/*", r"put_user_policy\(\)\s*\.user_name\((?!\")"),
        ("iam", "arn:aws:iam::{account}:role/*", r"put_role_policy\(\)\s*\.role_name\((?!\")"),
        ("iam", "*", r"get_account_authorization_details\(\)"),
        # SSM lists the sessions of everybody, and the list names the session.
        ("ssm", "*", r"\"AmazonSSM\.DescribeSessions\""),
        ("ssm", "arn:aws:ssm:{region}:{account}:session/*", r"\"AmazonSSM\.TerminateSession\""),
        ("cloudtrail", "*", SIGNED["CloudTrail"]),
        # A request names the person.
        ("identitystore", "arn:aws:identitystore:::user/*", SIGNED["identitystore"]),
        # A request names the account, and the configuration has its region.
        (
            "lambda",
            "arn:aws:lambda:*:*:function:temp-access:hub",
            r"lambda:\{region\}:\{account\}:function:\{function\}:\{HUB\}",
        ),
    ],
}
# Services whose name in the SDK differs from their name in botocore and IAM.
SERVICES = {"eventbridge": "events"}
# The clients in shared/lambda: the type that a function uses, the crate of the SDK, and the file of the client.
CLIENTS = {"Topic": ("sns", "topic.rs"), "Buses": ("eventbridge", "eventbridge.rs")}


def code(binary):
    """Returns the source of a function without its tests."""
    files = sorted((FUNCTIONS / binary / "src").rglob("*.rs"))
    assert files
    return "\n".join(file.read_text().split("#[cfg(test)]")[0] for file in files)


def clients(binary):
    """Returns the crates and the source of the clients in shared/lambda that a function uses."""
    used = [client for kind, client in CLIENTS.items() if re.search(rf"\b{kind}\b", code(binary))]
    return [crate for crate, _ in used], "\n".join((SHARED / file).read_text() for _, file in used)


def function(logical):
    return deployed.source()["Resources"][logical]["Properties"]


def role_of(logical):
    return function(logical)["Role"]["Fn::GetAtt"][0]


def of_role(logical):
    """Returns the function for which the role of a function is named."""
    return role_of(logical).removesuffix("Role")


def test_a_sweep_may_take_any_number_of_invocations_with_a_whole_core():
    """Lambda ends a chain of invocations through a queue after 16 rounds, unless the function may recur."""
    sweeper = deployed.source()["Resources"]["ArtifactSweeper"]["Properties"]
    assert (sweeper["RecursiveLoop"], sweeper["MemorySize"]) == ("Allow", 1769)


@pytest.mark.parametrize("logical", NAMES)
def test_environment(logical):
    globals_ = deployed.source()["Globals"]["Function"]["Environment"]["Variables"]
    given = set(globals_) | set(function(logical).get("Environment", {}).get("Variables", {}))
    source = code(NAMES[logical][1])
    read = {variable for constant, variable in VARIABLES.items() if re.search(rf"\b{constant}\b", source)}
    # The template sets neither the variables AWS_…, which Lambda sets, nor SEKISHO_CONFIG, which only tests set.
    read = {name for name in read if not name.startswith("AWS_") and name != "SEKISHO_CONFIG"}
    # The code of shared/lambda reads LEDGER_TABLE, and the C library reads RES_OPTIONS.
    assert given == read | {"LEDGER_TABLE", "RES_OPTIONS"}


@pytest.mark.parametrize("logical", NAMES)
def test_actions(logical):
    binary = NAMES[logical][1]
    shared, source = clients(binary)
    source += code(binary)
    manifest = (FUNCTIONS / binary / "Cargo.toml").read_text().split("[dev-dependencies]")[0]
    needed = set(BY_LAMBDA)
    session = botocore.session.get_session()
    for crate in {*shared, *re.findall(r"^aws-sdk-(\w+)", manifest, re.MULTILINE)}:
        service = SERVICES.get(crate, crate)
        if service == "dynamodb":
            # The functions call DynamoDB only through the ledger, so the ledger's methods show the operations.
            methods = set(re.findall(r"ledger(?:\(\))?\s*\.\s*(\w+)", source)) & set(LEDGER)
            needed |= {f"dynamodb:{LEDGER[method]}" for method in methods}
            continue
        operations = {xform_name(name): name for name in session.get_service_model(service).operation_names}
        for call in set(re.findall(r"\.(\w+)\(\)", source)) & set(operations):
            action = f"{service}:{operations[call]}"
            needed.update(NEEDS.get(action, [action]))
    signed = {service: set(re.findall(pattern, source)) for service, pattern in SIGNED.items()}
    assert {service for service, calls in signed.items() if calls} == set(re.findall(r'Service \{ id: "(\w+)"', source))
    for service, calls in signed.items():
        for action in (f"{service.lower()}:{call}" for call in calls):
            needed.update(NEEDS.get(action, [action]))
    for action in (action for action, pattern in S3_CONTROL.items() if re.search(pattern, source)):
        needed.update(NEEDS.get(action, [action]))
    if "DeadLetterQueue" in function(logical):
        needed.add("sqs:SendMessage")
    # artifact-sweeper has the binary and the role of artifact-checker, so the role also has what Lambda needs for it.
    if "ArtifactSweeper" in [name for name in NAMES if role_of(name) == role_of(logical)]:
        needed |= TAKES_RANGES
    allowed = set()
    for policy in deployed.source()["Resources"][role_of(logical)]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            present = statement["Fn::If"][1] if "Fn::If" in statement else statement
            allowed |= set(listed(present["Action"]))
    assert allowed == needed


@pytest.mark.parametrize("logical", NAMES)
def test_resources(logical, cloud_of_all, accounts):
    """The test reads the policy in an account that sets all parameters that name a resource."""
    name, binary = NAMES[logical]
    account = "111111111111" if logical == "EventRelay" else "333333333333"
    known = {"region": deployed.REGION, "account": account}
    # Lambda itself writes the log, so no place in the code names it. Each function writes to the log of its role.
    used = {("logs", f"arn:aws:logs:{deployed.REGION}:{account}:log-group:/aws/lambda/{NAMES[of_role(logical)][0]}:*")}
    configuration = cloud_of_all.client(account, "lambda").get_function_configuration(FunctionName=name)
    for variable, value in configuration["Environment"]["Variables"].items():
        if named := RESOURCES_BY_VARIABLE[variable]:
            service, resource = named
            used.add((service, resource.format(value=value, name=value.rpartition("/")[2], **known)))
    for service, resource, source in NAMED[of_role(logical)]:
        assert re.search(source, code(binary) + clients(binary)[1]), f"nothing in {binary} names {resource}"
        used.add((service, resource.format(**known)))
    (policy,) = [
        one
        for one in accounts[account]
        if one.kind == "identity" and one.on.endswith(f"role/sekisho-{binary}-{deployed.REGION}")
    ]
    allowed = {
        (action.partition(":")[0], resource)
        for statement in policy.statements
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    assert allowed == used
