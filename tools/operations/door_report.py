"""Prints every door of an account: what is wrong with it, who could come through, and who is mapped to its role."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.layout import CONFIG
from tools.operations.account import Account, Broken
from tools.operations.callers import Principals, trusted
from tools.operations.doors import APPROVERS, FUNCTION, HUB, Doors, Flaw, people
from tools.operations.policy import Unclear
from tools.operations.slack_roles import Mapping, SlackRoles

REFUSED = (ClientError, BotoCoreError)


class DoorReport:
    """The doors of one account, compared with its configuration."""

    def __init__(self, account: Account) -> None:
        self.account, self.target = account, account.target
        self.doors = Doors(account.target, account.client)
        # The questions that could not be answered.
        self.unclear: list[str] = []

    def show(self) -> bool:
        """Prints the doors; returns whether each of them is in order, and every question was answered."""
        print(f"The doors of {FUNCTION} in account {self.account.id}:")
        try:
            aliases = self.doors.names
        except REFUSED as error:
            print(f"    UNCLEAR which doors there are ({error})")
            return False
        if self.doors.versions is None:
            print(f"    BROKEN  there is no {FUNCTION} in {self.account.region}\n    Fix: {self.account.deploy}")
            return False
        expected = {*self.entries, *([HUB] if self.hub_account else [])}
        if not expected and not aliases:
            print(f"    There is none but {FUNCTION} itself, the door of everybody in the channel.")
            return True
        right = [self._show_one(name) for name in sorted({*expected, *aliases})]
        self._show_other_mappings(sorted({*expected, *aliases}))
        doubts = list(self._doubtful_mappings())
        for doubt in doubts:
            print(f"BROKEN  {doubt}")
        for question in dict.fromkeys(self.unclear):
            print(f"    Can't tell {question}")
        return all(right) and not doubts and not self.unclear

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The people in the deployed configuration; in the local one, if the deployed one can't be read."""
        try:
            return people(self.account.config(FUNCTION))
        except (Broken, Unclear, *REFUSED) as error:
            self.unclear.append(f"whether account {self.account.id} has the people of {CONFIG.name} here: {error}")
            return people(CONFIG.read_text())

    @property
    def hub_account(self) -> str:
        """The account that may hand requests on to this one; empty if there is none."""
        return self.target.parameters.get("HubAccountId", "")

    @cached_property
    def mappings(self) -> list[Mapping]:
        """The roles that members of Slack channels chose."""
        make_client: Any = self.account.session.client
        try:
            return SlackRoles(make_client).mappings()
        except REFUSED as error:
            self.unclear.append(f"who is mapped to which role in Slack ({error})")
            return []

    @cached_property
    def principals(self) -> Principals | None:
        """The users and roles of the account; None if these credentials may not read them."""
        try:
            return Principals(self.account.client("iam"), self.account.id)
        except REFUSED as error:
            self.unclear.append(f"who could come through a door without its policy ({error})")
            return None

    def _show_one(self, name: str) -> bool:
        is_hub = name == HUB and bool(self.hub_account)
        role = self.doors.role_of_hub(self.hub_account) if is_hub else self.doors.admitted(name)
        if name not in self.entries and not is_hub:
            missing = f"[access.people.{name}] is not configured" if name != HUB else "HubAccountId is not set"
            command = self._make(name)
            print(
                f"unused  {name}: {missing}, so {FUNCTION} refuses whoever comes through\n    Fix: {command} REMOVE=1"
            )
            return True
        try:
            flaws = list(self.doors.flaws(name, role))
            others = list(self._others(name, role, flaws))
            problems = [*(flaw.text for flaw in flaws), *self._problems_of_role(name, role)]
        except REFUSED as error:
            print(f"UNCLEAR {name}: {error}")
            return False
        print(f"{'BROKEN ' if problems or others else 'holds  '} {name}: {self._settings(name)}")
        for problem in problems:
            print(f"    Problem: {problem}")
        for other in others:
            print(f"    Could come through: {other}")
        if problems:
            print(f"    Fix: {self._make(name)}")
        if name == APPROVERS and role is None:
            print("    Closed: ApproverSlackChannelId is not set, so nobody comes through.")
        elif name != HUB:
            self._show_users(name, role)
        return not problems and not others

    def _make(self, name: str) -> str:
        """The command that makes the door."""
        person = f"person NAME={name}" if name != HUB else "hub"
        return f"make {person} ENV={self.target.name} PROFILE=…"

    def _settings(self, name: str) -> str:
        """What the configuration says about a door."""
        if name == HUB:
            return f"hands on the requests of account {self.hub_account}"
        entry = self.entries[name]
        texts = {"members": "a group of", "may_ask": "may ask", "for": "for", "may_approve": "may approve"}
        parts = [f"{text} {', '.join(entry[key])}" for key, text in texts.items() if entry.get(key)]
        return "; ".join(parts) or "may revoke only"

    def _others(self, name: str, role: str | None, flaws: Iterable[Flaw]) -> Iterator[str]:
        """Everybody but the door's role who could come through, and whoever may assume that role besides Chatbot."""
        if any(flaw.opens for flaw in flaws) and self.principals:
            found = self.principals.who_could_invoke(self.doors.arn(name), self.doors.policy(name))
            yield from (one for one in found if one != role)
        if name != HUB and role:
            try:
                trust = self.account.role(role).trust
            except Broken:
                return
            yield from (f"{one}, which may assume {role.rpartition('/')[2]}" for one in trusted(trust))

    def _problems_of_role(self, name: str, role: str | None) -> Iterator[str]:
        """What keeps the door's role from coming through. The role of the hub is in another account."""
        if name == HUB or not role:
            return
        try:
            if not self.account.role(role).may("lambda:InvokeFunction", self.doors.arn(name)):
                yield f"role {role} may not invoke {self.doors.arn(name)}"
        except Unclear as unclear:
            self.unclear.append(f"whether role {role} may invoke its door: {unclear}")
        except Broken:
            missing = f" until {self.account.deploy}" if name == APPROVERS else ""
            yield f"role {role} does not exist{missing}"

    def _show_users(self, name: str, role: str | None) -> None:
        users = [str(one) for one in self.mappings if one.role == role]
        for user in users:
            print(f"    Mapped in Slack: {user}")
        if not users and name != APPROVERS:
            print("    Nobody is mapped to its role in Slack.")

    def _show_other_mappings(self, names: Iterable[str]) -> None:
        """Prints who is mapped to a role that is not a door's."""
        roles = {self.doors.role(name) for name in names}
        for one in self.mappings:
            if one.role not in roles:
                print(f"        Mapped in Slack to {one.role}: {one}")

    def _doubtful_mappings(self) -> Iterator[str]:
        """Members who could be two people to temp-access, and doors of one person that two members have."""
        doors = {self.doors.role(name): name for name in self.entries}
        pairs = {(f"{one.user} of workspace {one.team}", doors[one.role]) for one in self.mappings if one.role in doors}
        by_member, by_door = defaultdict(set), defaultdict(set)
        for member, door in pairs:
            by_member[member].add(door)
            if not self.entries[door].get("members"):
                by_door[door].add(member)
        for member, found in sorted(by_member.items()):
            own = {door for door in found if not self.entries[door].get("members")}
            if len(own) > 1:
                yield f"{member} is mapped to the doors of {' and '.join(sorted(own))}, and could approve alone"
            groups = sorted(found - own)
            for one, other in itertools.combinations(groups, 2):
                if not {*self.entries[one]["members"]} & {*self.entries[other]["members"]}:
                    yield (
                        f"{member} is mapped to the doors of the groups {one} and {other}, which have no member in "
                        "common, and could approve alone"
                    )
            for group in groups:
                if own and not own <= set(self.entries[group]["members"]):
                    yield (
                        f"{member} is mapped to the door of the group {group}, which does not have "
                        f"{' and '.join(sorted(own))} among its members, and could approve alone"
                    )
        for door, members in sorted(by_door.items()):
            if len(members) > 1:
                yield f"the door of {door} is mapped by {' and '.join(sorted(members))}: it belongs to one person"
