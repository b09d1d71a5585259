"""The rights of one tenant on the queue's server, as a line of an ACL file.

A tenant's user does what its learner does: open, poke and cancel its tasks, read and delete its results, look after its dead
letters, subscribe tasks to its logs. Scripts may name the keys of its own jobs and the two keys that all jobs of a teacher share;
what a script or a bare command may do to these two is less: a field of `flows`, a member of `leases`, never a look at the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from preceptor.errors import InvalidArgument
from preceptor.limits import check_name
from preceptor.queue.keys import VERSION

SESSION = "auth client|setname hello info ping quit time"
SCRIPTS = "eval evalsha"
CHANNELS = "publish subscribe unsubscribe"
OWN_KEYS = "del get hget hmget hset pexpire sadd srem unlink xdel xlen xrange xrevrange xtrim zadd zrem"
OF_FLOWS, OF_LEASES = "hget hset", "zadd zrem"
OTHER_KINDS = ("quota", "usage")
"""Stand where tenants stand in the names of keys, so no tenant may be called like one."""


@dataclass(frozen=True, slots=True)
class AclUser:
    """One user of the server."""

    name: str
    rules: tuple[str, ...]

    @property
    def line(self) -> str:
        """As it stands in an ACL file or, behind `user`, in the server's configuration."""
        return f"user {self.name} {' '.join(self.rules)}"


def acl_user(tenant: str, password: str, teachers: Sequence[str] = ()) -> AclUser:
    """The user of a tenant, for the named teachers or for all; the line holds the password's hash alone."""
    check_name(tenant, "tenant")
    if tenant in OTHER_KINDS:
        raise InvalidArgument("this name stands for a kind of key", field="tenant", value=tenant, limit=f"not {OTHER_KINDS}")
    slots = [f"{VERSION}:{{{check_name(teacher, 'teacher')}}}" for teacher in teachers] or [f"{VERSION}:{{*}}"]
    own = [*(f"{slot}:{tenant}:*" for slot in slots), f"{VERSION}:{{log:{tenant}:*"]
    flows, leases = ([f"{slot}:{kind}" for slot in slots] for kind in ("flows", "leases"))
    rules = (
        "reset",
        "on",
        f"#{hashlib.sha256(password.encode()).hexdigest()}",
        *_granted(f"{SESSION} {SCRIPTS} {CHANNELS}"),
        *(f"~{key}" for key in (*own, *flows, *leases)),
        *(f"&{channel}" for channel in (*own, *flows)),
        _selector(own, OWN_KEYS),
        _selector(flows, OF_FLOWS),
        _selector(leases, OF_LEASES),
    )
    return AclUser(tenant, rules)


def _granted(commands: str) -> list[str]:
    return [f"+{command}" for command in commands.split()]


def _selector(keys: Sequence[str], commands: str) -> str:
    return f"({' '.join([*(f'~{key}' for key in keys), *_granted(commands)])})"
