import io
import zipfile
from collections import OrderedDict

import pytest
import torch as th

from sb3_lecture_dqn import UnsafeFileError
from sb3_lecture_dqn.saving.torch_file import read_tensors


@pytest.mark.parametrize(
    "value",
    [
        {"a": th.arange(6.0).reshape(2, 3).T, "b": th.zeros(0, 3), "c": th.tensor(5), "d": th.tensor([True, False])},
        OrderedDict(x=th.ones(2, dtype=th.float64)),
        [1, -3, 2**40, 0.5, None, True, "ü", (), (1,), (1, 2, 3, 4), {}, [[]]],
        {"state": {i: {"step": th.tensor(float(i))} for i in range(300)}},
        th.nn.BatchNorm1d(3).state_dict(),
    ],
    ids=range(5),
)
def test_tensors_are_read_as_pytorch_reads_them(value):
    file = io.BytesIO()
    th.save(value, file)
    expected = th.load(io.BytesIO(file.getvalue()), weights_only=True)
    read = read_tensors(file.getvalue())
    assert type(read) is type(expected)
    assert repr(read) == repr(expected)
    assert getattr(read, "_metadata", None) == getattr(expected, "_metadata", None)


TUPLES = b")q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(64))


@pytest.mark.parametrize(
    ("program", "reason"),
    {
        b"}" + TUPLES + b"Ns": "a container in several places",  # a key
        b"(" + TUPLES + b"NNNNtQ": "a container in several places",  # a storage
        b"]q\x00]q\x01h\x00a": "a container in several places",  # which could be filled later
        b"(" + b"K\x01" * 100 + b"tq\x00" + b"h\x00" * 100: "a container in several places",
        b"}K\x01\x85Ns": "a key that is neither text",
        b"}\x8a\x05\x00\x00\x00\x00\x01Ns": "a key that is neither text nor a small number",
        b"(t" * 50_000: "too many values",
        b"t": "damaged",  # without a mark
        b"NNR": "NoneType where tuple is expected",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR": "NoneType where _Storage is expected",
    }.items(),
    ids=range(10),
)
def test_programs_that_would_take_forever_are_refused(program, reason):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
    with pytest.raises(UnsafeFileError, match=reason):
        read_tensors(file.getvalue())
