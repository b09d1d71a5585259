"""The calls that every engine answers, as bytes -> stream of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from preceptor import wire
from preceptor.errors import ConfigurationError
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.engine_host.frames import split_name
from preceptor_serving.engine_host.score_wire import score
from preceptor_serving.engines.protocol import Engine, Method, OffersMethods

DESCRIBE, SCORE, LOAD_VERSION, DROP_VERSION = "describe", "score", "load_version", "drop_version"


def methods_of(engine: Engine) -> Mapping[str, Method]:
    """Method name -> what answers it: the common ones, and what the engine offers beyond them."""
    common: dict[str, Method] = {
        DESCRIBE: _plain(lambda request: describe(engine)),
        SCORE: _plain(lambda request: score(engine, request)),
        LOAD_VERSION: _plain(lambda request: load_version(engine, request)),
        DROP_VERSION: _plain(lambda request: drop_version(engine, request)),
    }
    own = engine.methods() if isinstance(engine, OffersMethods) else {}
    if clash := ", ".join(sorted(common.keys() & own.keys())):
        raise ConfigurationError(f"the engine redefines {clash}", field="methods", value=clash)
    return common | dict(own)


def describe(engine: Engine) -> bytes:
    """DescribeReply."""
    infos = [wire.model_info_to_proto(info) for info in engine.describe()]
    return teacher_pb2.DescribeReply(teachers=infos).SerializeToString()


def load_version(engine: Engine, request: bytes) -> bytes:
    """Folder, a zero byte, ModelRef in; nothing out. The service has chosen the folder among the operator's roots."""
    folder, version = split_name(request)
    engine.load_version(wire.model_ref_from_proto(common_pb2.ModelRef.FromString(version)), folder)
    return b""


def drop_version(engine: Engine, request: bytes) -> bytes:
    """ModelRef in, nothing out."""
    engine.drop_version(wire.model_ref_from_proto(common_pb2.ModelRef.FromString(request)))
    return b""


def _plain(answer: Callable[[bytes], bytes]) -> Method:
    def method(request: bytes) -> Iterator[bytes]:
        yield answer(request)

    return method
