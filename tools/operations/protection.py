"""Sets termination protection, so that nobody can delete the stack by mistake, not even in the console.

Neither a template nor `sam deploy` can set termination protection.
"""

from botocore.exceptions import BotoCoreError, ClientError

from tools.operations.environment import SAMCONFIG, Environment


def protect(target: Environment) -> str | None:
    """Protects the deployed stack unless samconfig.toml forbids it; returns the remaining step if AWS refuses."""
    if not target.protected:
        return None
    cloudformation = target.session().client("cloudformation")
    try:
        cloudformation.update_termination_protection(StackName=target.stack, EnableTerminationProtection=True)
    except (BotoCoreError, ClientError) as error:
        return (
            f"account {target.account}: stack {target.stack} has no termination protection ({error}): deploy "
            "bootstrap/deploy-role.yaml of this release again and repeat make deploy, or set "
            f"termination_protection = false under [{target.name}.sekisho] in {SAMCONFIG.name}"
        )
    return None
