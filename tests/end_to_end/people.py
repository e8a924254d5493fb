"""People who get access: their clients, and their requests to temp-access."""

import boto3

from tools.layout import REGION
from tools.local_stack import job

TAGS = [{"Key": "sekisho:access", "Value": "grantable"}]


def clients(stack, key):
    """Returns a function that makes a client for a service with these credentials."""
    return lambda service: boto3.client(
        service,
        region_name=REGION,
        endpoint_url=stack.endpoint,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
    )


def ask(stack, **request):
    """Sends a request to temp-access, and returns the answer."""
    return job.invoke(stack, "production", "temp-access", request)


def grant(stack, **request):
    """Asks for access, as `admin` unless the request names a profile."""
    return ask(stack, **{"profile": "admin", "reason": "a test"} | request)


def scheduled(stack, rule):
    """Sends the event of one of the function's schedules now, and returns the decisions."""
    event = {
        "version": "0",
        "id": "1",
        "source": "aws.events",
        "detail-type": "Scheduled Event",
        "account": "333333333333",
        "region": REGION,
        "time": "2026-11-21T00:00:00Z",
        "resources": [f"arn:aws:events:{REGION}:333333333333:rule/{rule}"],
        "detail": {},
    }
    return ask(stack, **event)["decisions"]
