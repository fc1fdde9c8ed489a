#!/usr/bin/env python3
"""answers.py FOLDER: what DuckDB answers to the queries beside this file over the tables of FOLDER.

TPCH_DUMP=FOLDER cargo test --test it tpch writes the tables as they are after all changes, TABLE.csv each. This writes
answers.jsonl: a line for each view, its name and its rows. It needs the duckdb module, and is run by hand when the
generator or a query changes.
"""
import datetime
import decimal
import json
import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).parent
folder = pathlib.Path(sys.argv[1])
db = duckdb.connect()
tables = re.sub(r"\) WITH \([^)]*\);", ");", (HERE / 'tables.sql').read_text())
for table in re.findall(r'CREATE TABLE (\w+)', tables):
    definition = re.search(rf'CREATE TABLE {table} .*?\);\n', tables, re.S).group(0)
    db.execute(definition)
    db.execute(f"COPY {table} FROM '{folder / (table + '.csv')}' (HEADER, NULLSTR 'NULL')")
queries = ''.join((HERE / name).read_text() for name in ['queries.sql', 'more.sql'])
queries = re.sub(r'--[^\n]*', '', queries).replace('MATERIALIZED ', '')


def plain(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


with open(HERE / 'answers.jsonl', 'w') as answers:
    for statement in queries.split(';'):
        if not statement.strip():
            continue
        db.execute(statement)
        view = re.search(r'CREATE VIEW (\w+)', statement).group(1)
        if view == 'revenue':
            continue
        found = db.execute(f'SELECT * FROM {view} ORDER BY ALL')
        names = [column[0] for column in found.description]
        rows = [[plain(value) for value in row] for row in found.fetchall()]
        answers.write(json.dumps({'view': view, 'columns': names, 'rows': rows}, separators=(',', ':')) + '\n')
        print(view, len(rows))
