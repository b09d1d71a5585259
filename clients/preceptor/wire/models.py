"""Names of weights, capabilities and receipts: message <-> typed value."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from preceptor.errors import InvalidArgument
from preceptor.types import AdapterRef, CacheTier, Capabilities, Grade, ModelInfo, ModelRef, Receipt, TimeSplit
from preceptor.wire.enums import known
from preceptor_proto.v1 import common_pb2


def model_ref_to_proto(ref: ModelRef) -> common_pb2.ModelRef:
    message = common_pb2.ModelRef(name=ref.name, run=ref.run, epoch=ref.epoch, step=ref.step, manifest_sha256=ref.manifest_sha256)
    if ref.adapter is not None:
        message.adapter.name = ref.adapter.name
        message.adapter.manifest_sha256 = ref.adapter.manifest_sha256
    return message


def model_ref_from_proto(message: common_pb2.ModelRef) -> ModelRef:
    adapter = AdapterRef(message.adapter.name, message.adapter.manifest_sha256) if message.HasField("adapter") else None
    return ModelRef(message.name, message.run, message.epoch, message.step, message.manifest_sha256, adapter)


def choice_to_proto(teacher: str, exact: ModelRef | None = None) -> common_pb2.ModelChoice:
    """The newest version behind a name, or exactly one."""
    if exact is None:
        return common_pb2.ModelChoice(teacher=teacher, latest=True)
    return common_pb2.ModelChoice(teacher=teacher, exact=model_ref_to_proto(exact))


def choice_from_proto(message: common_pb2.ModelChoice, field: str = "teacher") -> tuple[str, ModelRef | None]:
    match message.WhichOneof("version"):
        case "exact":
            return message.teacher, model_ref_from_proto(message.exact)
        case "latest" if message.latest:
            return message.teacher, None
        case _:
            raise InvalidArgument(f"{field} names no version", field=f"{field}.version", value="nothing", limit="latest | exact")


def capabilities_to_proto(capabilities: Capabilities) -> common_pb2.Capabilities:
    """Field for field: the names of the message and of the type are the same."""
    values = asdict(capabilities)
    grades = [common_pb2.Grade.Name(g) for g in values.pop("grades")]
    return common_pb2.Capabilities(**values, grades=grades)


def capabilities_from_proto(message: common_pb2.Capabilities) -> Capabilities:
    grades = tuple(known(Grade, number, "capabilities.grades") for number in message.grades)
    named: dict[str, Any] = {name: tuple(getattr(message, name)) for name in ("graders", "stepping_graders")}
    plain = {f.name: getattr(message, f.name) for f in fields(Capabilities) if f.name not in ("grades", *named)}
    return Capabilities(**plain, **named, grades=grades)


def model_info_to_proto(info: ModelInfo) -> common_pb2.ModelInfo:
    return common_pb2.ModelInfo(
        model=model_ref_to_proto(info.model),
        aliases=info.aliases,
        tokenizer_sha256=info.tokenizer_sha256,
        template_sha256=info.template_sha256,
        tokenizer_size=info.tokenizer_size,
        head_rows=info.head_rows,
        dtype=info.dtype,
        engine=info.engine,
        engine_version=info.engine_version,
        numerics_version=info.numerics_version,
        head_sha256=info.head_sha256,
        noise_floor_nats=info.noise_floor_nats,
        capabilities=capabilities_to_proto(info.capabilities),
    )


def model_info_from_proto(message: common_pb2.ModelInfo) -> ModelInfo:
    return ModelInfo(
        model=model_ref_from_proto(message.model),
        aliases=tuple(message.aliases),
        tokenizer_sha256=message.tokenizer_sha256,
        template_sha256=message.template_sha256,
        tokenizer_size=message.tokenizer_size,
        head_rows=message.head_rows,
        dtype=message.dtype,
        engine=message.engine,
        engine_version=message.engine_version,
        numerics_version=message.numerics_version,
        head_sha256=message.head_sha256,
        noise_floor_nats=message.noise_floor_nats if message.HasField("noise_floor_nats") else None,
        capabilities=capabilities_from_proto(message.capabilities),
    )


def receipt_to_proto(receipt: Receipt) -> common_pb2.Receipt:
    return common_pb2.Receipt(
        model=model_ref_to_proto(receipt.model),
        tokenizer_sha256=receipt.tokenizer_sha256,
        template_sha256=receipt.template_sha256,
        engine=receipt.engine,
        engine_version=receipt.engine_version,
        numerics_version=receipt.numerics_version,
        dtype=receipt.dtype,
        temperature=receipt.temperature,
        grade=common_pb2.Grade.Name(receipt.grade),
        error_bound_nats=receipt.error_bound_nats,
        clipped_low=receipt.clipped_low,
        tokens_computed=receipt.tokens_computed,
        tokens_reused=receipt.tokens_reused,
        tokens_recomputed=receipt.tokens_recomputed,
        cache=common_pb2.CacheTier.Name(receipt.cache),
        head_sha256=receipt.head_sha256,
        time=common_pb2.TimeSplit(**asdict(receipt.time)),
    )


def receipt_from_proto(message: common_pb2.Receipt) -> Receipt:
    time = message.time
    return Receipt(
        model=model_ref_from_proto(message.model),
        tokenizer_sha256=message.tokenizer_sha256,
        template_sha256=message.template_sha256,
        engine=message.engine,
        engine_version=message.engine_version,
        numerics_version=message.numerics_version,
        dtype=message.dtype,
        temperature=message.temperature,
        grade=known(Grade, message.grade, "receipt.grade"),
        error_bound_nats=message.error_bound_nats,
        clipped_low=message.clipped_low,
        tokens_computed=message.tokens_computed,
        tokens_reused=message.tokens_reused,
        tokens_recomputed=message.tokens_recomputed,
        cache=known(CacheTier, message.cache, "receipt.cache"),
        head_sha256=message.head_sha256,
        time=TimeSplit(time.queued_s, time.prefill_s, time.readout_s, time.serialise_s),
    )
