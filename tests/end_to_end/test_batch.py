"""A sweep leaves repairs to S3 Batch Operations, a person confirms the job, and its report ends the findings."""

import pytest

from tools.failure import Failure
from tools.layout import CONFIG
from tools.local_stack import job
from tools.local_stack.observed import decisions
from tools.local_stack.stack import eventually

PROFILE, CHECKER = "test", "sekisho-artifact-checker"
LIMIT = 2
KEYS = ["batch/a b+ü.zip", 'batch/"one", two.zip', "batch/three%20.zip", "batch/four.zip", "batch/five.zip"]


@pytest.fixture
def bucket(stack):
    """The artifact bucket with objects under the wrong key, as if their events were lost, and a small limit."""
    events, functions = stack.client(PROFILE, "events"), stack.client(PROFILE, "lambda")
    name = stack.outputs(PROFILE)["ArtifactBucketName"]
    job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": name})
    text = CONFIG.read_text().replace('repair = "update"', f'repair = "update"\nconfirm_above = {LIMIT}')
    assert "confirm_above" in text
    variables = job.configure(stack, PROFILE, CHECKER, text)
    events.disable_rule(Name="sekisho-artifact-write")
    try:
        for key in KEYS:
            job.put_without_key(stack, PROFILE, key, key.encode())
    finally:
        events.enable_rule(Name="sekisho-artifact-write")
    yield name
    functions.update_function_configuration(FunctionName=CHECKER, Environment={"Variables": variables})


def wrong(stack, bucket):
    """The keys of the objects that are not under the right key."""
    s3, right = stack.client(PROFILE, "s3"), stack.outputs(PROFILE)["ArtifactKeyArn"]
    return [key for key in KEYS if s3.head_object(Bucket=bucket, Key=key).get("SSEKMSKeyId") != right]


def test_a_confirmed_job_repairs_what_a_sweep_leaves(stack, bucket):
    answer = job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": bucket})
    (report,) = answer["sweeps"]
    assert (report["outcomes"]["repaired"], report["left"]) == (LIMIT, len(KEYS) - LIMIT), answer
    (finding,) = [one for one in answer["decisions"] if "code" in one]
    assert "$0.25" in finding["reason"] and len(wrong(stack, bucket)) == len(KEYS) - LIMIT
    with pytest.raises(Failure, match="NotFound"):
        job.invoke(stack, PROFILE, CHECKER, {"repair": "ABCD2345"})
    confirmed = job.invoke(stack, PROFILE, CHECKER, {"repair": finding["code"]})
    assert "$0.25" in confirmed["decisions"][0]["reason"]
    eventually("the job repairs the objects", lambda: not wrong(stack, bucket), 90)

    def ended():
        found = decisions(stack, PROFILE, "artifact-checker", "repaired")
        return [one for one in found if one.get("code") == finding["code"]]

    (end,) = eventually("the report of the job is read", ended, 90)
    assert f"put {len(KEYS) - LIMIT} of {len(KEYS) - LIMIT} objects" in end["reason"], end
    with job.artifact_reader(stack, PROFILE) as s3:
        contents = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in KEYS]
    assert contents == [key.encode() for key in KEYS]
    again = job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": bucket})
    assert "left" not in again["sweeps"][0] and again["sweeps"][0]["outcomes"].keys() <= {"compliant"}, again
