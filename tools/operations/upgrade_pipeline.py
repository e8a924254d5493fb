"""Shows the change of a V1 pipeline to V2, and makes it.

    make upgrade-pipeline ENV=test PIPELINE=shop                       shows the change as a diff
    make upgrade-pipeline ENV=test PIPELINE=shop PROFILE=… WRITE=1     makes it, as an administrator

Only V2 pipelines take the pinned revisions with which pipeline-starter starts them. The role for deployment may read
pipelines, but not update them. An update cancels the pipeline's executions, so nothing is written while one runs.
"""

import argparse
import difflib
import json
import re
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import Environment, environment

V1, V2 = "V1", "V2"
ENDED = ("Succeeded", "Failed", "Stopped", "Superseded", "Cancelled")
# GetPipeline shows a secret, such as the token of an action for GitHub (version 1), as asterisks.
MASKED = re.compile(r"\*+")

Declaration = dict[str, Any]


def upgrade(target: Environment, name: str, write: bool) -> None:
    """Shows the difference between the pipeline and the same pipeline of type V2; with `write`, makes the change."""
    client = target.session().client("codepipeline")
    where = f"pipeline {name} of account {target.account}, {target.region}"
    try:
        present: Declaration = dict(client.get_pipeline(name=name)["pipeline"])
    except client.exceptions.PipelineNotFoundException:
        names = [one["name"] for page in client.get_paginator("list_pipelines").paginate() for one in page["pipelines"]]
        known = f"its pipelines are {', '.join(names)}" if names else "it has no pipelines"
        raise Failure(f"There is no {where}: {known}.") from None
    if present.get("pipelineType", V1) == V2:
        print(f"Nothing to change: {where}, is of type V2.")
        return
    wanted = present | {"pipelineType": V2}
    print(difference(present, wanted), flush=True)
    if not write:
        print(
            f"Nothing was changed. To change {where}: make upgrade-pipeline ENV={target.name} PIPELINE={name} "
            "WRITE=1 PROFILE=(an administrator's profile in ~/.aws/config)"
        )
        return
    refuse_masked(present, where)
    # The last call before the update, because an execution may start at any moment.
    pages = client.get_paginator("list_pipeline_executions").paginate(pipelineName=name)
    for page in pages:
        for execution in page["pipelineExecutionSummaries"]:
            if execution["status"] not in ENDED:
                raise Failure(
                    f"Nothing was changed. Execution {execution['pipelineExecutionId']} of {where}, is "
                    f"{execution['status']}, and an update would cancel it: run this again when it has ended, also "
                    "if it waits for an approval."
                )
    updated: Declaration = dict(client.update_pipeline(pipeline=wanted)["pipeline"])
    changed = [key for key in {*wanted, *updated} - {"version"} if wanted.get(key) != updated.get(key)]
    if changed:
        raise Failure(f"CodePipeline has also changed {', '.join(sorted(changed))} of {where}: look at it.")
    print(
        f"Now {where}, is of type V2; nothing else has changed. If a template or Terraform declares the pipeline, set "
        "the type there as well (PipelineType: V2, pipeline_type): otherwise its next update may take the type back."
    )


def difference(present: Declaration, wanted: Declaration) -> str:
    """The change as a unified diff of the two declarations."""
    before, after = (json.dumps(one, indent=2, sort_keys=True, default=str).splitlines() for one in (present, wanted))
    return "\n".join(difflib.unified_diff(before, after, "present", "wanted", lineterm=""))


def refuse_masked(pipeline: Declaration, where: str) -> None:
    """Raises `Failure` if the declaration hides a secret, because an update would write the asterisks instead."""
    for stage in pipeline["stages"]:
        for action in stage["actions"]:
            for key, value in action.get("configuration", {}).items():
                if MASKED.fullmatch(value):
                    raise Failure(
                        f"Nothing was changed. {key} of action {action['name']} is a secret that AWS does not show, "
                        f"and an update would overwrite it with {value}. Set the type of {where}, together with the "
                        "secret, where you keep it."
                    )


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make upgrade-pipeline", description="Shows the change of a V1 pipeline to V2, and makes it"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--pipeline", required=True, metavar="PIPELINE")
    parser.add_argument("--profile", help="of somebody who may update pipelines; else the environment's own")
    parser.add_argument("--write", action="store_true", help="make the change")
    asked = parser.parse_args(arguments)
    try:
        upgrade(environment(asked.env, asked.profile), asked.pipeline, asked.write)
    except ClientError as error:
        advice = ""
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            advice = (
                "\nThe role for deployment may not do this, by design. Somebody who may update the pipeline, pass its "
                "role and list its executions, usually an administrator, can: make upgrade-pipeline "
                f"ENV={asked.env} PIPELINE={asked.pipeline} WRITE=1 PROFILE=(their profile in ~/.aws/config)"
            )
        sys.exit(f"Nothing was changed. {error}{advice}")
    except (Failure, BotoCoreError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
