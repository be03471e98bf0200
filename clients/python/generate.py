"""Writes _api.py from a set of descriptors: generate.py DESCRIPTORS FILE."""

import sys

from google.protobuf import descriptor_pb2

HEAD = '''\
"""The messages of the API. Made by clients/generate: do not edit.

They live in a pool of their own. So they clash with no messages of other libraries in the process, and work with every
release of protobuf that is accepted, whichever made this file.
"""

from google.protobuf import descriptor_pool, duration_pb2, message_factory

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
_POOL.AddSerializedFile(
'''


def main(descriptors: str, target: str) -> None:
    with open(descriptors, "rb") as file:
        described = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    (api,) = (file for file in described.file if file.name == "api.proto")
    data = api.SerializeToString(deterministic=True)
    lines = [HEAD]
    lines += [f"    {data[at : at + 64]!r}\n" for at in range(0, len(data), 64)]
    lines += [")\n\n\n", "def _message(name):\n"]
    lines += ['    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("quorate.api." + name))\n\n\n']
    lines += [f'{message.name} = _message("{message.name}")\n' for message in api.message_type]
    for enum in api.enum_type:
        lines += [f"{value.name} = {value.number}\n" for value in enum.value]
    with open(target, "w", encoding="utf-8") as file:
        file.writelines(lines)


main(*sys.argv[1:])
