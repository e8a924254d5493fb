"""What a new configuration means for a function that runs, and for an event that is tried again."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.local_cloud.accounts import PRODUCTION
from tests.local_cloud.test_cloud import make
from tools.layout import REGION

# Writes the word of its environment into the event's file. It begins by writing a dot, so that a test can wait for it.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, pathlib, time, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        request, body = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
    body = body.get("detail", body)
    with pathlib.Path(body["file"]).open("a") as file:
        file.write(".")
        file.flush()
        time.sleep(body.get("seconds", 0))
        file.write(os.environ["WORD"])
    is_first = pathlib.Path(body["file"]).read_text().count(".") == 1
    kind = "/error" if body.get("fails") and is_first else "/response"
    urllib.request.urlopen(api + request + kind, json.dumps(os.environ["WORD"]).encode())
"""


def function(cloud, folder, name):
    """A function whose rule sends it events with the source of its name."""
    client = make(cloud, folder, name, BOOTSTRAP, Environment={"Variables": {"WORD": "old"}})
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [f"for.{name}"]}))
    arn = f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:{name}"
    events.put_targets(Rule=name, Targets=[{"Id": "function", "Arn": arn}])
    return client


def send(cloud, name, **detail):
    entry = {"Source": f"for.{name}", "DetailType": "Any", "Detail": json.dumps(detail)}
    cloud.client("events", PRODUCTION).put_events(Entries=[entry])


def wait_for(file, text):
    end = time.monotonic() + 20
    while not (file.exists() and file.read_text() == text) and time.monotonic() < end:
        time.sleep(0.02)
    assert file.read_text() == text


def configure(client, name):
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"WORD": "new"}})


def test_a_new_configuration_does_not_end_what_runs_and_is_there_for_the_next_event(cloud, tmp_path):
    client, file = function(cloud, tmp_path, "running"), tmp_path / "running"
    send(cloud, "running", file=str(file), seconds=2)
    wait_for(file, ".")
    configure(client, "running")
    wait_for(file, ".old")
    send(cloud, "running", file=str(file))
    wait_for(file, ".old.new")


def test_an_event_is_tried_again_with_the_new_configuration(cloud, tmp_path):
    client, file = function(cloud, tmp_path, "tried-again"), tmp_path / "tried-again"
    send(cloud, "tried-again", file=str(file), fails=True)
    wait_for(file, ".old")
    configure(client, "tried-again")
    wait_for(file, ".old.new")
    payloads = [json.dumps({"file": str(tmp_path / str(n)), "seconds": 1}) for n in range(3)]

    def invoke(payload):
        return json.loads(client.invoke(FunctionName="tried-again", Payload=payload)["Payload"].read())

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(invoke, payloads)) == ["new", "new", "new"]
