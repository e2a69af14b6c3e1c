"""What Kubeflow Pipelines wrote down of artifacts, as its dashboard reads it: ML Metadata's gRPC service.

Its package pins an old protobuf, so the few messages that are asked for stand here, with upstream's field numbers
(google/ml-metadata, ml_metadata/proto/metadata_store.proto and metadata_store_service.proto).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

METHOD = "/ml_metadata.MetadataStoreService/GetArtifactsByURI"


@dataclass(frozen=True)
class Recorded:
    """An artifact: its type, such as system.Metrics, and the metadata that its component gave it."""

    uri: str
    type: str
    metadata: dict[str, Any]


def recorded(address: str, uri: str) -> Recorded:
    """The artifact of this URI in the service at HOST:PORT."""
    import grpc

    request, reply = _messages()
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(METHOD, request.SerializeToString, reply.FromString)
        [found] = ask(request(uris=[uri]), timeout=20).artifacts
    return Recorded(found.uri, found.type, {k: _plain(v) for k, v in found.custom_properties.items()})


def _plain(value: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return MessageToDict(found) if kind == "struct_value" else found


def _messages() -> tuple[Any, Any]:
    """The classes of the request and of the reply."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="textmill_ml_metadata.proto", package="ml_metadata", syntax="proto2"
    )
    file.dependency.append(struct_pb2.DESCRIPTOR.name)

    def message(parent: Any, name: str, *fields: tuple[str, int, int, str], repeated: str = "") -> Any:
        made = parent.add(name=name)
        for label, number, kind, of in fields:
            many = kinds.LABEL_REPEATED if label == repeated else kinds.LABEL_OPTIONAL
            made.field.add(name=label, number=number, type=kind, type_name=of or None, label=many)
        return made

    value = message(
        file.message_type,
        "Value",
        ("int_value", 1, kinds.TYPE_INT64, ""),
        ("double_value", 2, kinds.TYPE_DOUBLE, ""),
        ("string_value", 3, kinds.TYPE_STRING, ""),
        ("struct_value", 4, kinds.TYPE_MESSAGE, ".google.protobuf.Struct"),
        ("bool_value", 6, kinds.TYPE_BOOL, ""),
    )
    value.oneof_decl.add(name="value")
    for field in value.field:
        field.oneof_index = 0
    artifact = message(
        file.message_type,
        "Artifact",
        ("uri", 3, kinds.TYPE_STRING, ""),
        ("custom_properties", 5, kinds.TYPE_MESSAGE, ".ml_metadata.Artifact.CustomPropertiesEntry"),
        ("type", 8, kinds.TYPE_STRING, ""),
        repeated="custom_properties",
    )
    entry = message(
        artifact.nested_type,
        "CustomPropertiesEntry",
        ("key", 1, kinds.TYPE_STRING, ""),
        ("value", 2, kinds.TYPE_MESSAGE, ".ml_metadata.Value"),
    )
    entry.options.map_entry = True
    message(file.message_type, "Request", ("uris", 2, kinds.TYPE_STRING, ""), repeated="uris")
    message(
        file.message_type,
        "Reply",
        ("artifacts", 1, kinds.TYPE_MESSAGE, ".ml_metadata.Artifact"),
        repeated="artifacts",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return tuple(  # type: ignore[return-value]
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ml_metadata.{name}"))
        for name in ("Request", "Reply")
    )
