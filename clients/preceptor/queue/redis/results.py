"""Results and dead letters on the server."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.errors import NotFound
from preceptor.queue import parts
from preceptor.queue.envelopes import check_blob_key, open_blob, unpack
from preceptor.queue.keys import Flow
from preceptor.queue.redis.doors import Part, new_op, spec_args
from preceptor.queue.redis.replies import pairs
from preceptor.queue.stored import stored
from preceptor.queue.types import OUT_START, DeadEntry, OutEntry, TaskState
from preceptor_proto.v1 import common_pb2, teacher_pb2


class RedisResults(Part):
    """`preceptor.queue.protocol.Results`."""

    async def read_out(
        self, flow: Flow, after: str = OUT_START, *, limit: int = 256, timeout_s: float = 0.0
    ) -> tuple[OutEntry, ...]:
        """See `Results.read_out`."""
        behind = parts.position_text(parts.parse_position(after))

        async def arrived() -> tuple[OutEntry, ...] | None:
            (found,) = await self._on_flow("read_results", flow, after=behind, limit=limit, kept_ms=self._kept_ms)
            return tuple(OutEntry(position, unpack(entry)) for position, entry in pairs(found)) or None

        return await self._wakes.until(flow.out, arrived, timeout_s) or ()

    async def delete_out(self, flow: Flow, upto: str, blobs: Sequence[teacher_pb2.BlobRef] = ()) -> None:
        """See `Results.delete_out`."""
        keys = [check_blob_key(flow, blob.key) for blob in blobs]
        position = parts.position_text(parts.parse_position(upto))
        await self._on_flow(
            "delete_results",
            flow,
            upto=position,
            unread_bound=self._bounds.unread_bytes,
            items=[blob.payload_bytes for blob in blobs],
            more_keys=keys,
        )

    async def read_blob(self, flow: Flow, blob: teacher_pb2.BlobRef) -> common_pb2.Rows | None:
        """See `Results.read_blob`."""
        _, payload = await self._link.run("read_blob_bytes", {"blob": check_blob_key(flow, blob.key)}, {})
        return open_blob(blob, payload)


class RedisDeadLetters(Part):
    """`preceptor.queue.protocol.DeadLetters`."""

    async def dead_letters(self, flow: Flow, *, limit: int = 100) -> tuple[DeadEntry, ...]:
        """See `DeadLetters.dead_letters`."""
        return await self._letters(flow, "-", "+", limit)

    async def dead_letter(self, flow: Flow, letter_id: str) -> DeadEntry:
        """See `DeadLetters.dead_letter`."""
        position = _position(letter_id)
        for entry in await self._letters(flow, position, position, 1):
            return entry
        raise _no_letter(letter_id)

    async def replay_dead_letter(self, flow: Flow, letter_id: str) -> TaskState:
        """See `DeadLetters.replay_dead_letter`."""
        spec = parts.task_spec(flow, (await self.dead_letter(flow, letter_id)).letter.task)
        args = spec_args(spec, first_row=spec.first_row, kept_ms=self._kept_ms)
        (state,) = await self._on_task("replay_letter", flow, spec.task_id, letter_id=_position(letter_id), op=new_op(), **args)
        if not state:
            raise _no_letter(letter_id)
        return TaskState(state.decode())

    async def drop_dead_letter(self, flow: Flow, letter_id: str) -> None:
        """See `DeadLetters.drop_dead_letter`."""
        (deleted,) = await self._on_flow("delete_letter", flow, letter_id=_position(letter_id))
        if not deleted:
            raise _no_letter(letter_id)

    async def _letters(self, flow: Flow, first: str, last: str, limit: int) -> tuple[DeadEntry, ...]:
        (found,) = await self._on_flow("read_letters", flow, first=first, last=last, limit=limit)
        return tuple(DeadEntry(position, stored(teacher_pb2.DeadLetter, letter, "letter")) for position, letter in pairs(found))


def _position(letter_id: str) -> str:
    return parts.position_text(parts.parse_position(letter_id))


def _no_letter(letter_id: str) -> NotFound:
    return NotFound(f"no dead letter {letter_id}", field="letter_id", value=letter_id, hint="preceptor dlq list")
