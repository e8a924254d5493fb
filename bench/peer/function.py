"""The Python function that temp-access is compared with: grants temporary access by one inline policy, using boto3."""

import json
import os
from datetime import UTC, datetime, timedelta

import boto3

iam = boto3.client("iam")
MINUTES = int(os.environ.get("MINUTES", "180"))


def handler(event, _context):
    start = datetime.now(UTC)
    end = start + timedelta(minutes=MINUTES)
    form = "%Y-%m-%dT%H:%M:%SZ"
    window = {
        "DateGreaterThan": {"aws:CurrentTime": start.strftime(form)},
        "DateLessThan": {"aws:CurrentTime": end.strftime(form)},
    }
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": window}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=event["user"], PolicyName="temp-access", PolicyDocument=document)
    return f"End time is {end.strftime(form)}"
