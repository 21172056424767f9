"""Accounts with money, for tests of transactions: what is made or lost shows in the sum."""

from typing import Any, ClassVar

from shared.objects.errors import DomainError
from shared.objects.handler import Alarm, DurableObject
from shared.objects.transactions import Participant, Step
from shared.testing.kit import Kit

TENANT = "acme"


class PoorError(DomainError):
    """The account has less than that."""

    code: ClassVar[str] = "poor"


class Account(Participant):
    """What a debit needs is put aside when it is prepared, so no turn in between can spend it."""

    kind = "account"

    def open(self, balance: int) -> None:
        self.storage.put("balance", balance)

    def balance(self) -> int:
        return self.storage.get("balance", int, default=0)

    def aside(self) -> int:
        return self.storage.get("aside", int, default=0)

    def busy(self) -> bool:
        return self.prepared

    def spend(self, amount: int) -> int:
        if amount > self.balance():
            raise PoorError(f"There are {self.balance()}.")
        self.storage.put("balance", self.balance() - amount)
        return self.balance()

    def on_prepare(self, step: str, *args: Any) -> None:
        if step == "debit":
            self.spend(args[0])
            self.storage.put("aside", self.aside() + args[0])

    def on_commit(self, step: str, *args: Any) -> None:
        if step == "credit":
            self.storage.put("balance", self.balance() + args[0])
        else:
            self.storage.put("aside", self.aside() - args[0])

    def on_rollback(self, step: str, *args: Any) -> None:
        if step == "debit":
            self.storage.put("aside", self.aside() - args[0])
            self.storage.put("balance", self.balance() + args[0])


class Saver(Account):
    """An account with an alarm of its own."""

    kind = "saver"

    def remind(self) -> None:
        self.alarms.set("mine", at_ms=self.clock.now_ms() + 1_000)

    def reminded(self) -> list[str]:
        return list(self.storage.get("reminded", tuple[str, ...], default=()))

    def on_alarm(self, alarm: Alarm) -> None:
        self.storage.put("reminded", (*self.reminded(), alarm.name))


class Teller(DurableObject):
    """Transfers on behalf of callers, in a turn."""

    kind = "teller"

    async def transfer(self, source: str, target: str, amount: int, key: str) -> None:
        await self.transactions.run(transfer(source, target, amount), key=key)

    async def transfer_own(self, target: str) -> None:
        await self.transactions.run(transfer("a", target, 1))


def transfer(source: str, target: str, amount: int) -> list[Step]:
    """A transfer as steps."""
    return [Step(Account, TENANT, source, "debit", (amount,)), Step(Account, TENANT, target, "credit", (amount,))]


async def run(kit: Kit, steps: list[Step], key: str = "") -> None:
    """Run a transaction from outside of the objects."""
    await kit.node.run(kit.node.host.transactions(TENANT).run(steps, key=key))


async def open_accounts(kit: Kit, balance: int, *names: str) -> None:
    """Accounts with so much each."""
    for name in names:
        await kit.at(Account, TENANT, name).open(balance)


async def balances(kit: Kit, *names: str) -> list[int]:
    """What they have."""
    return [await kit.at(Account, TENANT, name).balance() for name in names]


async def unsettled(kit: Kit, *names: str) -> list[str]:
    """The accounts that are prepared or have something put aside."""
    return [
        name
        for name in names
        if await kit.at(Account, TENANT, name).busy() or await kit.at(Account, TENANT, name).aside()
    ]
