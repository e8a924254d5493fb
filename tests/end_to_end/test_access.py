"""Access for users and roles, with IAM enforced: how it is granted, what it does not allow, and how it ends."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.end_to_end.people import TAGS, ask, clients, grant, scheduled
from tests.template import deployed
from tools.layout import ACCOUNTS, REGION
from tools.local_stack import job
from tools.local_stack.observed import error_code, grants
from tools.local_stack.stack import eventually

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
ACCOUNT = ACCOUNTS["production"]
ANYBODY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
)
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


@pytest.fixture(scope="module")
def holder(stack, user):
    """A function that makes the clients of a user who has access through the profile that allows everything."""
    acts = user("holder")
    grant(stack, user="holder", minutes=60)
    assert acts("lambda").list_functions()["Functions"]
    return acts


# Calls with which a person who has access could extend that access or get more permissions.
DENIED_CALLS = [
    ("a key for another user", "iam", "create_access_key", {"UserName": "prd-user"}),
    ("a user of one's own", "iam", "create_user", {"UserName": "later"}),
    ("a role that anybody may take", "iam", "create_role", {"RoleName": "later", "AssumeRolePolicyDocument": ANYBODY}),
    (
        "a policy on oneself",
        "iam",
        "put_user_policy",
        {"UserName": "holder", "PolicyName": "stay", "PolicyDocument": EVERYTHING},
    ),
    (
        "a longer window in one's own policy",
        "iam",
        "put_user_policy",
        {"UserName": "holder", "PolicyName": "sekisho-admin", "PolicyDocument": EVERYTHING},
    ),
    (
        "a managed policy on oneself",
        "iam",
        "attach_user_policy",
        {"UserName": "holder", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    ("the boundary off", "iam", "delete_user_permissions_boundary", {"UserName": "holder"}),
    (
        "the boundary rewritten",
        "iam",
        "create_policy_version",
        {
            "PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/sekisho-access-boundary",
            "PolicyDocument": EVERYTHING,
            "SetAsDefault": True,
        },
    ),
    ("another's tag", "iam", "tag_user", {"UserName": "prd-user", "Tags": TAGS}),
    (
        "another role",
        "sts",
        "assume_role",
        {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/sekisho-cloudformation-{REGION}", "RoleSessionName": "stay"},
    ),
    ("a grant of one's own", "lambda", "invoke", {"FunctionName": "temp-access", "Payload": b'{"user":"holder"}'}),
    ("other code in temp-access", "lambda", "update_function_code", {"FunctionName": "temp-access", "ZipFile": b"PK"}),
    (
        "another configuration of it",
        "lambda",
        "update_function_configuration",
        {"FunctionName": "temp-access", "Timeout": 3},
    ),
    (
        "a door into a function",
        "lambda",
        "add_permission",
        {
            "FunctionName": "shop-prices",
            "StatementId": "stay",
            "Action": "lambda:InvokeFunction",
            "Principal": "999999999999",
        },
    ),
    ("a stack", "cloudformation", "create_stack", {"StackName": "stay", "TemplateBody": "{}"}),
    ("an execution of the pipeline", "codepipeline", "start_pipeline_execution", {"name": "shop"}),
    (
        "a bucket's policy",
        "s3",
        "put_bucket_policy",
        {"Bucket": f"sekisho-artifacts-{ACCOUNT}-{REGION}", "Policy": EVERYTHING},
    ),
    ("a rule", "events", "put_rule", {"Name": "stay", "ScheduleExpression": "rate(1 day)"}),
    (
        "a schedule",
        "scheduler",
        "create_schedule",
        {
            "Name": "stay",
            "ScheduleExpression": "rate(1 day)",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:temp-access",
                "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/sekisho-chat-{REGION}",
            },
        },
    ),
    (
        "a queue's policy",
        "sqs",
        "set_queue_attributes",
        {"QueueUrl": "sekisho-pipeline-starter-dead-letters", "Attributes": {"Policy": EVERYTHING}},
    ),
    (
        "the ledger's rows",
        "dynamodb",
        "delete_item",
        {"TableName": "sekisho-ledger", "Key": {"pk": {"S": "grant"}, "sk": {"S": "user/holder/admin"}}},
    ),
    ("the ledger", "dynamodb", "delete_table", {"TableName": "sekisho-ledger"}),
    ("the account's organization", "organizations", "leave_organization", {}),
]


@pytest.mark.parametrize(
    ("service", "call", "request_"), [one[1:] for one in DENIED_CALLS], ids=[one[0] for one in DENIED_CALLS]
)
def test_the_boundary_denies(stack, holder, service, call, request_):
    if "QueueUrl" in request_:
        url = stack.client("production", "sqs").get_queue_url(QueueName=request_["QueueUrl"])["QueueUrl"]
        request_ = request_ | {"QueueUrl": url}
    assert error_code(lambda: getattr(holder(service), call)(**request_)) in DENIED


def test_a_grant_of_a_key_is_for_aws_resources_only(stack, holder):
    kms = stack.client("production", "kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    assert holder("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyId"] == key
    grant_ = {"KeyId": key, "GranteePrincipal": "arn:aws:iam::999999999999:root", "Operations": ["Decrypt"]}
    assert error_code(lambda: holder("kms").create_grant(**grant_)) in DENIED


def test_a_roles_sessions_have_access_until_it_is_revoked(stack):
    iam, boundary = stack.client("production", "iam"), stack.outputs("production")["AccessBoundaryArn"]
    role = iam.create_role(
        RoleName="operators", AssumeRolePolicyDocument=ANYBODY, PermissionsBoundary=boundary, Tags=TAGS
    )["Role"]["Arn"]
    key = stack.client("production", "sts").assume_role(RoleArn=role, RoleSessionName="night")["Credentials"]
    session = clients(stack, key)
    assert error_code(session("lambda").list_functions) in DENIED
    grant(stack, role="operators", minutes=30, reason="障害対応 <shop> & more")
    assert session("lambda").list_functions()["Functions"]
    assert [one["reason"] for one in grants(stack, "production") if one["sk"] == "role/operators/admin"] == [
        "障害対応 <shop> & more"
    ]
    assert "障害" not in json.dumps(
        iam.get_role_policy(RoleName="operators", PolicyName="sekisho-admin")["PolicyDocument"]
    )
    ask(stack, action="revoke", role="operators")
    assert error_code(session("lambda").list_functions) in DENIED
    assert iam.list_role_policies(RoleName="operators")["PolicyNames"] == []


@pytest.fixture
def strict(stack):
    """Gives temp-access a profile `strict` with MFA and an address range. The emulator has no MFA."""
    profile = (
        '\n[access.profiles.strict]\nstatements = [{ actions = ["ec2:*"], resources = ["*"] }]\n'
        'require_mfa = true\nmfa_minutes = 60\nsource_ips = ["203.0.113.0/24"]\n'
    )
    before = job.configure(stack, "production", "temp-access", stack.places.sekisho.read_text() + profile)
    yield
    stack.client("production", "lambda").update_function_configuration(
        FunctionName="temp-access", Environment={"Variables": before}
    )


@pytest.mark.usefixtures("strict")
def test_a_profile_with_mfa_denies_a_session_without_mfa(stack, user):
    acts, iam = user("without-mfa"), stack.client("production", "iam")
    grant(stack, user="without-mfa", profile="strict", minutes=5)
    policy = {"UserName": "without-mfa", "PolicyName": "sekisho-strict"}
    document = iam.get_user_policy(**policy)["PolicyDocument"]
    (condition,) = [statement["Condition"] for statement in document["Statement"]]
    assert condition["Bool"] == {"aws:MultiFactorAuthPresent": "true"}
    assert condition["NumericLessThan"] == {"aws:MultiFactorAuthAge": "3600"}

    def with_out(what):
        del condition[what]
        iam.put_user_policy(**policy, PolicyDocument=json.dumps(document))
        return error_code(acts("ec2").describe_vpcs)

    assert error_code(acts("ec2").describe_vpcs) in DENIED
    # The call is denied for three reasons: the session has no MFA, so its MFA has no age either, and the test's address
    # is not in the profile's ranges.
    assert with_out("IpAddress") in DENIED
    assert with_out("Bool") in DENIED
    assert with_out("NumericLessThan") is None


def test_the_sweep_removes_ended_grants_only(stack, user):
    iam = stack.client("production", "iam")
    for name in ("ended", "open-ended", "inside"):
        user(name)
    grant(stack, user="inside", minutes=5)
    ended = iam.get_user_policy(UserName="inside", PolicyName="sekisho-admin")["PolicyDocument"]
    for statement in ended["Statement"]:
        statement["Condition"]["DateLessThan"]["aws:CurrentTime"] = "2026-01-01T00:00:00Z"
    iam.put_user_policy(UserName="ended", PolicyName="sekisho-admin", PolicyDocument=json.dumps(ended))
    iam.put_user_policy(UserName="ended", PolicyName="another", PolicyDocument=json.dumps(ended))
    iam.put_user_policy(UserName="open-ended", PolicyName="sekisho-admin", PolicyDocument=EVERYTHING)
    swept = {one["user"]: one["outcome"] for one in scheduled(stack, "sekisho-access-sweep") if "user" in one}
    assert (swept["ended"], swept["open-ended"]) == ("swept", "open-ended") and "inside" not in swept
    left = {name: iam.list_user_policies(UserName=name)["PolicyNames"] for name in ("ended", "open-ended", "inside")}
    assert left == {"ended": ["another"], "open-ended": ["sekisho-admin"], "inside": ["sekisho-admin"]}


def test_grants_at_the_same_time_end_with_the_latest(stack, user):
    names = [f"many-{n}" for n in range(3)]
    for name in names:
        user(name)
    requests = [(name, minutes) for minutes in (20, 45, 5, 30) for name in names]
    before = datetime.now(UTC)
    with ThreadPoolExecutor(max_workers=6) as pool:
        answers = pool.map(lambda one: grant(stack, user=one[0], minutes=one[1]), requests)
        ends = [(name, job.end_of_grant(answer)) for (name, _), answer in zip(requests, answers, strict=True)]
    iam = stack.client("production", "iam")
    for name in names:
        (statement,) = iam.get_user_policy(UserName=name, PolicyName="sekisho-admin")["PolicyDocument"]["Statement"]
        end = datetime.fromisoformat(statement["Condition"]["DateLessThan"]["aws:CurrentTime"])
        assert end == max(reported for user, reported in ends if user == name)
        assert end >= before.replace(microsecond=0) + timedelta(minutes=45)


@pytest.fixture(scope="module")
def notice_of(stack):
    """A function that returns the next notice whose title contains the words."""
    sns, sqs = stack.client("production", "sns"), stack.client("production", "sqs")
    notices: list[dict] = []
    (topic,) = [one["TopicArn"] for one in sns.list_topics()["Topics"] if one["TopicArn"].endswith(":sekisho-notices")]
    queue = sqs.create_queue(QueueName="notices")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    takes = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [takes]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def find(*words):
        def probe():
            found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
            for one in found:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
            notices.extend(json.loads(json.loads(one["Body"])["Message"]) for one in found)
            return [one for one in notices if all(word in one["content"]["title"] for word in words)]

        one = eventually(f"a notice titled {' '.join(words)} arrives", probe, 30)[0]
        notices.remove(one)
        return one

    return find


def test_each_grant_has_a_notice(stack, user, notice_of):
    user("noticed")
    grant(stack, user="noticed", minutes=5, reason="look at <logs>")
    notice = notice_of("Let in", "noticed")
    assert notice["source"] == "custom" and "look at &lt;logs&gt;" in notice["content"]["description"]
    assert "cloudtrail" in notice["content"]["description"]


def value_at(notice, path):
    """Returns the value at a path such as `event.metadata.additionalContext.user`; None if the path has no value."""
    value = {"event": notice}
    for step in path.split("."):
        value = value.get(step, {})
    return value or None


def buttons(notice):
    """Returns the buttons that Chatbot shows below a notice, as a dictionary of payloads by the button's text.

    The custom actions in the template define the buttons.
    """
    found = {}
    for one in deployed.source()["Resources"].values():
        if one["Type"] != "AWS::Chatbot::CustomAction":
            continue
        for attached in one["Properties"].get("Attachments", []):  # an alias needs none
            if attached["NotificationType"] != "Custom":
                continue
            values = {name: value_at(notice, path) for name, path in attached["Variables"].items()}
            shown = {"EQUALS": lambda value, wanted: value == wanted, "HAS_VALUE": lambda value, _: value is not None}
            if all(
                shown[each["Operator"]](values[each["VariableName"]], each.get("Value"))
                for each in attached["Criteria"]
            ):
                command = one["Properties"]["Definition"]["CommandText"]["Fn::Sub"].replace("${AWS::Region}", REGION)
                assert len(command) <= 100, command
                for name, value in values.items():
                    command = command.replace(f"${name}", value or "")
                to, payload = command.split(" --payload ")
                assert to == f"lambda invoke temp-access --region {REGION}"
                found[attached["ButtonText"]] = json.loads(payload)
    return found


def test_the_buttons_of_a_notice_extend_and_end_access(stack, user, notice_of):
    iam = stack.client("production", "iam")
    user("pressed")
    first = job.end_of_grant(grant(stack, user="pressed", profile="read-only", minutes=5))
    below = buttons(notice_of("Let in", "pressed"))
    assert set(below) == {"Let in for longer", "End access"}
    assert job.end_of_grant(ask(stack, **below["Let in for longer"])) > first
    assert ask(stack, **below["End access"]).startswith("Access of user pressed is ended")
    assert iam.list_user_policies(UserName="pressed")["PolicyNames"] == []
    below = buttons(notice_of("Ended", "pressed"))
    assert set(below) == {"Let in again"}
    ask(stack, **below["Let in again"])
    assert iam.list_user_policies(UserName="pressed")["PolicyNames"] == ["sekisho-read-only"]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"user": "prd-user", "minutes": 481}, "InvalidRequest"),
        ({"user": "prd-user", "minutes": "60"}, "InvalidRequest"),
        ({"user": "prd-user", "minuts": 60}, "InvalidRequest"),
        ({"user": "prd-user", "role": "operators"}, "InvalidRequest"),
        ({"user": "PRD-USER"}, "NotFound"),
        ({"user": "nobody-of-this-name"}, "NotFound"),
        ([], "InvalidRequest"),
    ],
)
def test_a_bad_request_is_an_error_with_a_type_and_writes_nothing(stack, payload, error):
    iam = stack.client("production", "iam")
    before = iam.list_user_policies(UserName="prd-user")["PolicyNames"]
    answer = stack.client("production", "lambda").invoke(
        FunctionName="temp-access", Payload=json.dumps(payload).encode()
    )
    found = json.loads(answer["Payload"].read())
    assert answer["FunctionError"] and found["errorType"] == error, found
    assert iam.list_user_policies(UserName="prd-user")["PolicyNames"] == before
