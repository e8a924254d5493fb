"""A native function that answers with the ARN by which it was invoked, and the ways to invoke it."""

import io
import json
import sys
import zipfile

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, allow
from tools.layout import REGION

# A request with `answer` is answered with its value. A request with `fail` fails. A request with `to` is also sent to
# that queue. A request with `call` invokes that function, and answers with the error code, if there is one.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        request, body = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
        invoked = event.headers["Lambda-Runtime-Invoked-Function-Arn"]
    answer = json.dumps({{"invoked": invoked, "event": body}})
    if body.get("call"):
        import boto3, botocore.exceptions
        try:
            boto3.client("lambda").invoke(FunctionName=body["call"], Payload=b"{{}}")
        except botocore.exceptions.ClientError as error:
            answer = json.dumps(error.response["Error"]["Code"])
    if "answer" in body:
        answer = json.dumps(body["answer"])
    if body.get("to"):
        import boto3
        boto3.client("sqs").send_message(QueueUrl=body["to"], MessageBody=answer)
    urllib.request.urlopen(api + request + ("/error" if body.get("fail") else "/response"), answer.encode())
"""


def make(cloud, account: str, name: str, *aliases: str, role: str = "", **settings) -> str:
    """Creates the function with aliases of `$LATEST`, and returns its ARN. Without a role, it gets one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        package.writestr(entry, BOOTSTRAP)
    functions = cloud.client("lambda", account)
    functions.create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role or cloud.role(account, name, {"Service": "lambda.amazonaws.com"}, [allow("sqs:SendMessage")]),
        Code={"ZipFile": archive.getvalue()},
        Timeout=10,
        **settings,
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    for alias in aliases:
        functions.create_alias(FunctionName=name, Name=alias, FunctionVersion="$LATEST")
    return arn_of(account, name)


def arn_of(account: str, name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{account}:function:{name}"


def visitor(cloud, name: str, *statements: dict, account: str = PRODUCTION):
    """Lambda's client of a session of a new role that has these statements."""
    role = cloud.role(account, name, {"AWS": f"arn:aws:iam::{account}:root"}, list(statements))
    return cloud.client("lambda", credentials=cloud.session(role))


def invoked(functions, reference: str, **more) -> str:
    """Invokes a function, and returns the ARN that the function saw."""
    answer = functions.invoke(FunctionName=reference, Payload=b"{}", **more)
    return json.loads(answer["Payload"].read())["invoked"]


def refusal(call, **request) -> str:
    """The code of the error with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    code: str = caught.value.response["Error"]["Code"]
    return code


def is_denied(functions, reference: str, **more) -> bool:
    return refusal(functions.invoke, FunctionName=reference, **more) == "AccessDeniedException"
