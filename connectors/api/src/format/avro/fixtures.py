#!/usr/bin/env python3
"""Writes fixtures.jsonl anew: messages as fastavro writes them, and the rows that they are. Needs `pip install fastavro`."""

import datetime, decimal, io, json, pathlib, uuid
import fastavro

UTC = datetime.timezone.utc
out = []


def case(name, schema, columns, values, rows):
    """`columns`: name and SQL type; `rows`: the rows as Highwater writes them as JSON."""
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    messages = []
    for value in values:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, value)
        messages.append(buffer.getvalue().hex())
    out.append({"name": name, "schema": json.dumps(schema), "columns": columns, "messages": messages, "rows": rows})


def record(*fields, name="R"):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}


case("primitives",
     record(("b", "boolean"), ("i", "int"), ("l", "long"), ("f", "float"), ("d", "double"), ("s", "string"), ("y", "bytes")),
     [["b", "BOOLEAN"], ["i", "INT"], ["l", "BIGINT"], ["f", "REAL"], ["d", "DOUBLE"], ["s", "VARCHAR"], ["y", "BYTEA"]],
     [dict(b=True, i=-2**31, l=2**63 - 1, f=0.5, d=-1e300, s="grün", y=b"\x00\xff"),
      dict(b=False, i=2**31 - 1, l=-2**63, f=-2.25, d=0.1, s="", y=b"")],
     [{"b": True, "i": -2**31, "l": 2**63 - 1, "f": 0.5, "d": -1e300, "s": "grün", "y": {"$hex": "00ff"}},
      {"b": False, "i": 2**31 - 1, "l": -2**63, "f": -2.25, "d": 0.1, "s": "", "y": {"$hex": ""}}])

case("promoted",
     record(("i", "int"), ("l", "long"), ("f", "float"), ("n", "int"), ("s", "string"), ("y", "bytes")),
     [["i", "BIGINT"], ["l", "DOUBLE"], ["f", "DOUBLE"], ["n", "DECIMAL"], ["s", "BYTEA"], ["y", "VARCHAR"]],
     [dict(i=7, l=8, f=1.5, n=-9, s="a", y=b"b")],
     [{"i": 7, "l": 8.0, "f": 1.5, "n": -9.00, "s": {"$hex": "61"}, "y": "b"}])

case("logical types",
     record(("d", {"type": "int", "logicalType": "date"}),
            ("tm", {"type": "int", "logicalType": "time-millis"}),
            ("tu", {"type": "long", "logicalType": "time-micros"}),
            ("sm", {"type": "long", "logicalType": "timestamp-millis"}),
            ("su", {"type": "long", "logicalType": "timestamp-micros"}),
            ("lm", {"type": "long", "logicalType": "local-timestamp-millis"}),
            ("n", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
            ("x", {"type": "fixed", "name": "X", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2}),
            ("u", {"type": "string", "logicalType": "uuid"})),
     [["d", "DATE"], ["tm", "TIME"], ["tu", "TIME"], ["sm", "TIMESTAMP"], ["su", "TIMESTAMP"], ["lm", "TIMESTAMP"],
      ["n", "DECIMAL"], ["x", "DECIMAL"], ["u", "VARCHAR"]],
     [dict(d=datetime.date(1969, 12, 31), tm=datetime.time(1, 2, 3, 4000), tu=datetime.time(23, 59, 59, 999999),
           sm=datetime.datetime(2026, 1, 31, 12, 0, 0, 123000, UTC), su=datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
           lm=datetime.datetime(2026, 1, 31, 12), n=decimal.Decimal("-12345.67"), x=decimal.Decimal("0.01"),
           u=uuid.UUID("12345678-1234-5678-1234-567812345678"))],
     [{"d": "1969-12-31", "tm": "01:02:03.004000", "tu": "23:59:59.999999", "sm": "2026-01-31T12:00:00.123000",
       "su": "1969-12-31T23:59:59.999999", "lm": "2026-01-31T12:00:00.000000", "n": -12345.67, "x": 0.01,
       "u": "12345678-1234-5678-1234-567812345678"}])

inner = record(("x", "long"), ("y", ["null", "string"]), name="Inner")
case("nested",
     {"type": "record", "name": "R", "namespace": "n", "fields": [
         {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
         {"name": "a", "type": {"type": "array", "items": ["null", "long"]}},
         {"name": "m", "type": {"type": "map", "values": "long"}},
         {"name": "r", "type": ["null", inner]},
         {"name": "rs", "type": {"type": "array", "items": "Inner"}},
         {"name": "skipped", "type": ["null", {"type": "map", "values": {"type": "array", "items": "n.Inner"}}]},
         {"name": "last", "type": "n.E"}]},
     [["e", "VARCHAR"], ["a", "BIGINT[]"], ["m", "MAP"], ["r", "ROW"], ["rs", "ROW[]"], ["last", "VARCHAR"]],
     [dict(e="B", a=[1, None, -3], m={"k": 5}, r=dict(x=1, y="z"), rs=[dict(x=2, y=None), dict(x=3, y="w")],
           skipped={"q": [dict(x=9, y="no")]}, last="A"),
      dict(e="A", a=[], m={}, r=None, rs=[], skipped=None, last="B")],
     [{"e": "B", "a": [1, None, -3], "m": {"k": 5}, "r": {"x": 1, "y": "z"}, "rs": [{"x": 2, "y": None}, {"x": 3, "y": "w"}],
       "last": "A"},
      {"e": "A", "a": [], "m": {}, "r": None, "rs": [], "last": "B"}])

case("a value that is the whole message", "string", [["s", "VARCHAR"]], ["one", ""], [{"s": "one"}, {"s": ""}])

with open(pathlib.Path(__file__).with_name("fixtures.jsonl"), "w") as file:
    for one in out:
        file.write(json.dumps(one, ensure_ascii=False) + "\n")
