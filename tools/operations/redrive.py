"""Processes the messages in an account's dead-letter queues again, and removes those that succeed.

    make redrive ENV=production        PROFILE=… for other credentials than the environment's own

ENV is an environment in samconfig.toml. Finished work is not repeated: for such a message, a function answers
`duplicate`, `stale` or `compliant`. A message that fails again stays in its queue.
"""

import argparse
import json
import sys
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import Environment, environment
from tools.operations.invocation import PATIENT, invoke

FUNCTIONS = {
    "HostsRepositories": ["sekisho-event-relay"],
    "HostsPipelines": ["sekisho-pipeline-starter", "sekisho-artifact-checker", "sekisho-artifact-sweeper"],
}


def redrive(target: Environment) -> int:
    """Redrives each function's queue; returns the number of messages that are left."""
    session = target.session()
    sqs = session.client("sqs")
    # The check of a large artifact takes longer than botocore waits by default.
    functions = session.client("lambda", config=PATIENT)
    left = 0
    for function in [name for duty, names in FUNCTIONS.items() if target.does(duty) for name in names]:
        queue = sqs.get_queue_url(QueueName=f"{function}-dead-letters")["QueueUrl"]
        done, failed = redrive_queue(sqs, queue, functions, function)
        print(f"{function}: {done} redriven, {failed} left.")
        left += failed
    return left


def redrive_queue(sqs: Any, queue: str, functions: Any, function: str) -> tuple[int, int]:
    """Redrives a queue; returns how many messages succeeded and how many failed again."""
    # A message that failed again stays hidden until the end, so that it does not delay those that were not tried yet.
    done, failed = 0, {}
    try:
        # Receives one message at a time, and hides it for longer than an invocation can take.
        while messages := sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=1, VisibilityTimeout=960
        ).get("Messages"):
            (message,) = messages
            again = message["MessageId"] in failed
            failed[message["MessageId"]] = message["ReceiptHandle"]
            if again:
                continue
            response = invoke(functions, function, message["Body"])
            answer = response["Payload"].read().decode()
            if "FunctionError" in response:
                print(f"{function}: failed again and stays: {answer[:300]}")
                continue
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            del failed[message["MessageId"]]
            done += 1
            for decision in json.loads(answer).get("decisions", []):
                print(f"{function}: {decision['outcome']}: {decision['reason']}")
    finally:
        for handle in failed.values():
            # If this call fails, the message becomes visible by itself later.
            with suppress(ClientError, BotoCoreError):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
    return done, len(failed)


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make redrive", description="Processes the messages in an account's dead-letter queues again"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    asked = parser.parse_args(arguments)
    try:
        left = redrive(environment(asked.env, asked.profile))
    except (Failure, ClientError, BotoCoreError) as error:
        sys.exit(f"Not redriven. {error}")
    if left:
        sys.exit(f"{left} messages failed again: solve what they report, then make redrive ENV={asked.env}.")


if __name__ == "__main__":
    main(sys.argv[1:])
