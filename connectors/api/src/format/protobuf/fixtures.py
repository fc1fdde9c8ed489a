#!/usr/bin/env python3
"""Writes fixtures.bin (descriptors) and fixtures.jsonl (messages of Google's library) anew. Needs `pip install grpcio-tools`."""

import json, pathlib, subprocess, sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

here = pathlib.Path(__file__).parent
import grpc_tools
include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{here}", f"-I{include}", "--include_imports",
                f"--descriptor_set_out={here / 'fixtures.bin'}", "fixtures.proto"], check=True)
files = descriptor_pb2.FileDescriptorSet.FromString((here / "fixtures.bin").read_bytes())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.Add(file)
Row = message_factory.GetMessageClass(pool.FindMessageTypeByName("fixtures.Row"))
Inner = message_factory.GetMessageClass(pool.FindMessageTypeByName("fixtures.Row.Inner"))

empty = Row()
full = Row(d=-0.5, f=1.5, i=-7, l=2**63 - 1, u=2**64 - 1, si=-2**31, sl=-2**63, fi=2**32 - 1, sfl=-9, b=True, s="grün", y=b"\x00\xff",
           state=2, number=2, maybe=0, inner=Inner(x=5, y=""), inners=[Inner(x=1), Inner(y="z")], list=[1, -1, 2**40],
           texts=["", "a"], counts={"k": 3}, rows={"r": Inner(x=9)}, right=0, packed=[-1, 0, 1], states=[0, 2, 7],
           raw=Inner(x=1, y="r"))
full.at.seconds, full.at.nanos = -1, 999_999_000
full.took.seconds, full.took.nanos = 1, 500_000_000
full.wrapped.value = 0
rows = [
    {"d": 0.0, "f": 0.0, "i": 0, "l": 0, "u": 0, "si": 0, "sl": 0, "fi": 0, "sfl": 0, "b": False, "s": "", "y": {"$hex": ""},
     "state": "NEW", "number": 0, "maybe": None, "inner": None, "inners": [], "list": [], "texts": [], "counts": {}, "rows": {},
     "left": None, "right": None, "at": None, "took": None, "wrapped": None, "raw": None, "states": [], "packed": []},
    {"d": -0.5, "f": 1.5, "i": -7, "l": 2**63 - 1, "u": 2**64 - 1, "si": -2**31, "sl": -2**63, "fi": 2**32 - 1, "sfl": -9, "b": True,
     "s": "grün", "y": {"$hex": "00ff"}, "state": "PAID", "number": 2, "maybe": 0, "inner": {"x": 5, "y": ""},
     "inners": [{"x": 1, "y": None}, {"x": 0, "y": "z"}], "list": [1, -1, 2**40], "texts": ["", "a"], "counts": {"k": 3},
     "rows": {"r": {"x": 9, "y": None}}, "left": None, "right": 0, "at": "1969-12-31T23:59:59.999999",
     "took": {"$interval_us": 1500000}, "wrapped": 0, "raw": {"$hex": Inner(x=1, y="r").SerializeToString().hex()},
     "states": ["NEW", "PAID", "7"], "packed": [-1, 0, 1]},
]
with open(here / "fixtures.jsonl", "w") as file:
    for message, row in zip([empty, full], rows):
        file.write(json.dumps({"message": message.SerializeToString(deterministic=True).hex(), "row": row}, ensure_ascii=False) + "\n")
