#!/usr/bin/env python3
"""Sends again what the dead-letter queues of an account hold, and takes out what has then been decided.

    make redrive ENV=production        PROFILE=… for other credentials than the environment's own

ENV is an environment of samconfig.toml, which says where. What was done before is not done twice: the
functions answer `duplicate`, `stale` or `compliant`. What fails again stays in its queue.
"""

import argparse
import json
import sys
import time
from contextlib import suppress

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from environment import Refused, environment

# Seconds to wait where Lambda has no room (429): a burst of the functions' own work passes in less.
PAUSES = [1, 2, 4, 8, 15, 30]
FUNCTIONS = {
    "HostsRepositories": ["sekisho-event-relay"],
    "HostsPipelines": ["sekisho-pipeline-starter", "sekisho-artifact-checker"],
}


def redrive(target):
    """Redrives each function's queue; returns how many messages are left."""
    aws = target.session()
    sqs = aws.client("sqs")
    # A check of a large artifact takes longer than botocore waits by itself; and a second try would run it twice.
    functions = aws.client("lambda", config=Config(read_timeout=900, retries={"total_max_attempts": 1}))
    left = 0
    for function in [name for duty, names in FUNCTIONS.items() if target.does(duty) for name in names]:
        queue = sqs.get_queue_url(QueueName=f"{function}-dead-letters")["QueueUrl"]
        done, failed = redrive_queue(sqs, queue, functions, function)
        print(f"{function}: {done} redriven, {failed} left.")
        left += failed
    return left


def invoke(functions, function, body):
    """Invokes the function; while Lambda has no room for it, waits: what it refused it has not run."""
    for pause in PAUSES:
        try:
            return functions.invoke(FunctionName=function, Payload=body.encode())
        except ClientError as error:
            if error.response["Error"]["Code"] != "TooManyRequestsException":
                raise
            time.sleep(pause)
    return functions.invoke(FunctionName=function, Payload=body.encode())


def redrive_queue(sqs, queue, functions, function):
    """Redrives a queue; returns how many messages were done and how many failed again."""
    # What failed again stays hidden until the end, and so does not stand before what has not been tried.
    done, kept = 0, {}
    try:
        # One at a time: hidden for longer than its one invocation can take.
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=1, VisibilityTimeout=960).get("Messages"):
            (message,) = messages
            again = message["MessageId"] in kept
            kept[message["MessageId"]] = message["ReceiptHandle"]
            if again:
                continue
            answer = invoke(functions, function, message["Body"])
            said = answer["Payload"].read().decode()
            if "FunctionError" in answer:
                print(f"{function}: failed again and stays: {said[:300]}")
                continue
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            del kept[message["MessageId"]]
            done += 1
            for decision in json.loads(said).get("decisions", []):
                print(f"{function}: {decision['outcome']}: {decision['reason']}")
    finally:
        for handle in kept.values():
            # Where this fails, the message shows again by itself.
            with suppress(ClientError, BotoCoreError):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
    return done, len(kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="whose credentials; else the environment's own")
    asked = parser.parse_args()
    try:
        left = redrive(environment(asked.env, asked.profile))
    except (Refused, ClientError, BotoCoreError) as error:
        sys.exit(f"Not redriven. {error}")
    if left:
        sys.exit(f"{left} messages failed again: mend what they say, then make redrive ENV={asked.env}.")


if __name__ == "__main__":
    main()
