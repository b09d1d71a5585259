"""The calls with which a run's owner has its published versions held at a teacher."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from preceptor import wire
from preceptor.errors import InvalidArgument
from preceptor.types import ModelRef
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.auth.identity import LOCAL, Identity, Scope
from preceptor_serving.frame.call import Call
from preceptor_serving.run_owner import require_owner
from preceptor_serving.service import Rpc
from preceptor_teacher.versions import Versions

FindVersions = Callable[[str], Versions]
"""The versions of the teacher of that name or alias."""


@dataclass(frozen=True, slots=True)
class VersionCalls:
    """Load, pin and drop. A version belongs to a run, and a run to a tenant."""

    versions_of: FindVersions

    def rpcs(self) -> dict[str, Rpc]:
        """By the names that the protocol gives them."""
        return {
            "LoadVersion": Rpc(self.load, Scope.TRAIN),
            "PinVersion": Rpc(self.pin, Scope.TRAIN),
            "DropVersion": Rpc(self.drop, Scope.TRAIN),
        }

    async def load(self, request: teacher_pb2.LoadVersionRequest, call: Call) -> teacher_pb2.LoadVersionReply:
        """Answers when the engine holds the version."""
        versions, ref = self._named(request.teacher, request.model, call)
        began = time.perf_counter()
        info = await versions.find(ref, tenant_of(call.identity))
        return teacher_pb2.LoadVersionReply(info=wire.model_info_to_proto(info), load_s=time.perf_counter() - began)

    async def pin(self, request: teacher_pb2.PinVersionRequest, call: Call) -> teacher_pb2.PinVersionReply:
        """A pinned version stays in memory until it is unpinned or dropped."""
        versions, ref = self._named(request.teacher, request.model, call)
        await versions.pin(ref, pinned=request.pinned)
        return teacher_pb2.PinVersionReply(held_versions=versions.tally.held, pinned_versions=versions.tally.pinned)

    async def drop(self, request: teacher_pb2.DropVersionRequest, call: Call) -> teacher_pb2.DropVersionReply:
        """Answers when its memory is free."""
        versions, ref = self._named(request.teacher, request.model, call)
        await versions.drop(ref)
        return teacher_pb2.DropVersionReply(held_versions=versions.tally.held, pinned_versions=versions.tally.pinned)

    def _named(self, teacher: str, model: common_pb2.ModelRef, call: Call) -> tuple[Versions, ModelRef]:
        versions, ref = self.versions_of(teacher), wire.model_ref_from_proto(model)
        if not ref.run:
            raise InvalidArgument("only versions that a run published come and go", field="model.run", value="", limit="a run")
        require_owner(versions.roots, ref.run, call.identity)
        return versions, ref


def tenant_of(identity: Identity) -> str | None:
    """Whose runs these are; None where everybody is the operator."""
    return None if identity == LOCAL else identity.tenant
