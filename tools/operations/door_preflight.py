"""The checks of `make deploy` that the doors of temp-access exist before the configuration names them.

Whoever may create an alias, but no resource policy, could otherwise open a door that the configuration already names.
"""

from collections.abc import Iterator

from tools.failure import Failure
from tools.layout import CONFIG, ROOT
from tools.operations.deployment import Deployment, Problem, Unknown
from tools.operations.doors import APPROVERS, FUNCTION, HUB, Doors, people, role_name
from tools.operations.leftovers import found

CONFIG_NAME = CONFIG.relative_to(ROOT)


def approvers_are_configured(deployment: Deployment) -> Iterator[Problem]:
    """The approvers' channel uses the door of the group `approvers`, which must have members."""
    target = deployment.target
    channel = target.parameters.get("ApproverSlackChannelId")
    if channel and not _people().get(APPROVERS, {}).get("members"):
        yield Problem(
            f"ApproverSlackChannelId={channel} of environment {target.name} needs the group "
            f"[access.people.{APPROVERS}] in {CONFIG_NAME}, whose members are the doors of whoever is in that channel",
            f"make person NAME={APPROVERS} ENV={target.name} PROFILE=… shows the lines",
        )


def doors_exist(deployment: Deployment) -> Iterator[Problem]:
    """Each door of the configuration, and the hub if it is set, must have its alias and its policy."""
    target = deployment.target
    if not deployment.has("GrantsAccess"):
        return
    hub, names = target.parameters.get("HubAccountId"), sorted(_people())
    if not hub and not names:
        return
    doors = Doors(target, deployment.client)
    commands = {name: f"make person NAME={name} ENV={target.name} PROFILE=…" for name in names}
    roles = {name: doors.admitted(name) for name in names}
    if hub:
        commands[HUB], roles[HUB] = f"make hub ENV={target.name} PROFILE=…", doors.role_of_hub(hub)
    if doors.versions is None:
        # An alias can't exist before its function, and before the first deployment nobody can be let in.
        yield Problem(
            f"Account {target.account} has no {FUNCTION} yet, and so none of its doors ({', '.join(commands)})",
            f"after this deployment: {'; '.join(commands.values())}",
            blocks=False,
        )
        return
    for name, command in commands.items():
        where = f"HubAccountId of environment {target.name}" if name == HUB else f"[access.people.{name}]"
        flaws = [flaw.text for flaw in doors.flaws(name, roles[name])]
        # The role of the hub is in another account, and this deployment creates the one of the approvers.
        if not flaws and name not in (HUB, APPROVERS) and not _exists(deployment, role_name(name, target.region)):
            flaws.append(f"role {roles[name]} does not exist, so whoever may create roles could come through")
        for flaw in flaws:
            yield Problem(f"{where} needs the door {FUNCTION}:{name} of account {target.account}: {flaw}", command)


def _exists(deployment: Deployment, role: str) -> bool:
    return found(deployment.client("iam").get_role, RoleName=role) is not None


def _people() -> dict[str, dict[str, object]]:
    try:
        return people(CONFIG.read_text())
    except Failure as failure:
        raise Unknown(str(failure)) from None
