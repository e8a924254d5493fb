"""A train on the local stack: the route with waves, a commit that fails, and the alarms of the application."""

import json

from tools.layout import ACCOUNTS, PIPELINE, REGION, REPOSITORY, SOURCE_ACTION
from tools.local_stack import job
from tools.local_stack.observed import Row, decisions
from tools.local_stack.stack import Stack, eventually

ALARMS = ("shop-errors", "shop-latency")
# Test is the one-box. A bake needs at least half a minute: the follow-up comes once a minute, and the history of the
# alarms is read some seconds after the end.
WAVES = (("one-box", "test", "10s"), ("production", "production", "0s"))
FUNCTIONS = {"repository": "sekisho-event-relay", "test": job.STARTER, "production": job.STARTER}
TEMPLATE = "api/template.yaml"
GOOD_LINE = 'return {"apple": 120, "melon": 980}'
BAD_LINE = 'raise ValueError("no price for a pear")'


def route(waves: tuple[tuple[str, str, str], ...] = WAVES) -> str:
    """The configuration of a route with waves; each wave has a name, a profile and the length of its bake."""
    text = f'[[route]]\nname = "{REPOSITORY}"\nrepository = "{REPOSITORY}"\nbranches = ["main"]\n'
    for name, profile, bake in waves:
        gate = "" if bake == "0s" else 'alarms = ["shop-*"]\n'
        text += (
            f'[[route.wave]]\nname = "{name}"\nbake = "{bake}"\n{gate}'
            f'[[route.wave.target]]\naccount = "{ACCOUNTS[profile]}"\nregion = "{REGION}"\n'
            f'pipeline = "{PIPELINE}"\naction = "{SOURCE_ACTION}"\n'
        )
    names = "".join(f'{profile} = "{ACCOUNTS[profile]}"\n' for _, profile, _ in waves)
    return f"{text}[access.accounts]\n{names}"


def configure(stack: Stack, text: str) -> None:
    """Gives the functions that read routes another configuration, as a deployment of the three accounts does."""
    for profile, function in FUNCTIONS.items():
        job.configure(stack, profile, function, text)


def application(answer: str = GOOD_LINE) -> dict[str, str]:
    """The files of the application with this line of code."""
    files = job.application()
    return files | {TEMPLATE: files[TEMPLATE].replace(GOOD_LINE, answer)}


def set_alarms(stack: Stack, profile: str, state: str, names: tuple[str, ...] = ALARMS) -> None:
    """Sets the state of alarms, which CloudWatch does on AWS: the emulator's alarms evaluate no metrics."""
    cloudwatch = stack.client(profile, "cloudwatch")
    for name in names:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=f"the function: {state}")


def ask(stack: Stack, **request: object) -> str:
    """Sends a request about the train and returns the text of the answer."""
    return str(job.invoke(stack, "repository", FUNCTIONS["repository"], {"route": REPOSITORY, **request}))


def wait_for_state(stack: Stack, profile: str, outcome: str, commit: str, seconds: int) -> Row:
    """Waits until the account's pipeline-starter has decided this about the commit, and returns the decision."""

    def probe() -> list[Row]:
        found = decisions(stack, profile, "pipeline-starter", outcome)
        return [one for one in found if commit in json.dumps(one)]

    return eventually(f"pipeline-starter in {profile} decides `{outcome}` about {commit[:8]}", probe, seconds)[-1]
