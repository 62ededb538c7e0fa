"""Reading numbers from TensorBoard's event files, in bounded memory even if a file is hostile."""

import pathlib
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.user_yaml import open_regular

#: Most bytes of an event; pictures are the largest events
_MAX_EVENT = 2**28
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class Scalar(NamedTuple):
    """
    A logged number.

    :param tag: Its name
    :param step: Episode or environment step
    :param value: The number
    """

    tag: str
    step: int
    value: float


def read_scalars(path: pathlib.Path, tags: Collection[str]) -> Iterator[Scalar]:
    """
    Read the numbers with some tags, in the order in which they were written. An incomplete last event is ignored.

    :param path: The file
    :param tags: The tags
    :return: The numbers
    :raises UnsafeFileError: If the file is damaged, or one of the tags has a value that is not a single number
    :raises ValueError: If it is not a regular file
    """
    for content in _records(path):
        event = Event()
        try:
            event.ParseFromString(content)
        except DecodeError as error:
            raise UnsafeFileError(f"{shown(path, 1000)} is not an event file, or it is damaged: {error}") from error
        for value in event.summary.value:
            if value.tag in tags:
                yield Scalar(value.tag, event.step, _number(path, value, event.step))


def _records(path: pathlib.Path) -> Iterator[bytes]:
    """Yield the events of a file. Each is stored as a length, its checksum, that many bytes, and their checksum."""
    with open_regular(path) as file:
        while len(head := file.read(12)) == 12:
            (length,), (checksum,) = _LENGTH.unpack(head[:8]), _CHECKSUM.unpack(head[8:])
            if masked_crc32c(head[:8]) != checksum or length > _MAX_EVENT:
                raise UnsafeFileError(
                    f"{shown(path, 1000)} is not an event file, or it is damaged at byte {file.tell() - 12}"
                )
            content = file.read(length)
            if len(content) < length or len(file.read(4)) < 4:
                return  # the run still writes it, or was killed
            # The second checksum is not computed: a picture takes a second, and protobuf notices most damage
            yield content


def _number(path: pathlib.Path, value: Summary.Value, step: int) -> float:
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    tensor = value.tensor
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    # Not by `make_ndarray`, which repeats one number as often as a hostile shape says
    if value.WhichOneof("value") == "tensor" and shape in ([], [1]):
        for dtype, values, form in ((DT_FLOAT, tensor.float_val, "<f"), (DT_DOUBLE, tensor.double_val, "<d")):
            if tensor.dtype == dtype and len(tensor.tensor_content) == struct.calcsize(form):
                return float(struct.unpack(form, tensor.tensor_content)[0])
            if tensor.dtype == dtype and len(values) == 1:
                return float(values[0])
    kind = f"a tensor of shape {shape[:8]}" if value.WhichOneof("value") == "tensor" else "no tensor"
    raise UnsafeFileError(f"{shown(path, 1000)}: {value.tag!r} at step {step} is {kind}; a curve needs single numbers")
