#!/usr/bin/env python3
"""expect.py FILE.slt...: fills in types and rows of `query` records, and the numbers of `statement count`, by DuckDB.

Nothing here asks Highwater. A block of CREATEs makes everything anew; materialized views are plain views, and an INSERT into
a table with a primary key replaces. Comments right above a record direct this program:

    # by hand: WHY        the record's expectation was worked out by a person and stays; a change of rows is still made
    # by hand from here   so for all that follows, and DuckDB is asked nothing any more
    # duckdb: SQL         DuckDB is asked this instead: a query of the same meaning, a statement (nothing if empty), or in a
                          block of CREATEs a definition in place of the one of the same name, or one that those need; several
                          lines are put together

Needs Python with the module duckdb; run it when a case is added, and look at the difference: where DuckDB has other
semantics than PostgreSQL and Flink, its answer is not the truth.
"""
import datetime
import decimal
import json
import re
import sys

import duckdb

# Functions that DuckDB has under other names.
MACROS = [
    'regexp_like(s, p) AS regexp_matches(s, p)',
    "regexp_count(s, p) AS len(regexp_extract_all(s, p))",
    'cardinality(a) AS len(a)',
    'array_contains(a, x) AS list_contains(a, x)',
    'array_cat(a, b) AS list_concat(a, b)',
    "split_index(s, d, n) AS CASE WHEN n < len(string_split(s, d)) THEN string_split(s, d)[n + 1] END",
]
CREATE = re.compile(r'\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:MATERIALIZED\s+)?(?:TABLE|SOURCE|VIEW)\s+"?(\w+)"?', re.I)


def nested(value):
    """A value inside of an array, a map or a row, as JSON."""
    if isinstance(value, dict):
        return '{' + ','.join(f'{json.dumps(str(key))}:{nested(item)}' for key, item in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        return '[' + ','.join(nested(item) for item in value) + ']'
    if isinstance(value, (bool, int, type(None))):
        return json.dumps(value)
    text = shown(value)
    return text if isinstance(value, (float, decimal.Decimal)) else json.dumps('' if text == '(empty)' else text, ensure_ascii=False)


def shown(value):
    """A value as tests/it/slt.rs shows it."""
    if value is None:
        return 'NULL'
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, datetime.datetime):
        zone = '' if value.tzinfo is None else 'Z'
        value = value if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        text = value.isoformat()
        return (text.rstrip('0').rstrip('.') if '.' in text else text) + zone
    if isinstance(value, (datetime.date, datetime.time)):
        text = value.isoformat()
        return text.rstrip('0') if '.' in text else text
    if isinstance(value, datetime.timedelta):
        return '{"$interval_us":%d}' % (value // datetime.timedelta(microseconds=1))
    if isinstance(value, float):
        return {'nan': 'NaN', 'inf': 'Infinity', '-inf': '-Infinity'}.get(repr(value), repr(value))
    if isinstance(value, decimal.Decimal):
        return format(value, 'f')
    if isinstance(value, bytes):
        return '{"$hex":"%s"}' % value.hex()
    if isinstance(value, (dict, list, tuple)):
        return nested(value)
    return str(value) or '(empty)'


def kind(values):
    """T, I, R, or ? of a column of NULLs: the same look at values as the test has."""
    kinds = set()
    for value in values:
        if value is None:
            continue
        number = isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool)
        text = shown(value)
        if not number or text in ('NaN', 'Infinity', '-Infinity'):
            kinds.add('T')
        else:
            kinds.add('R' if '.' in text or 'e' in text else 'I')
    return kinds.pop() if len(kinds) == 1 else 'T' if kinds else '?'


class Asked:
    """A DuckDB of its own."""

    def __init__(self):
        self.db = duckdb.connect()
        self.db.execute("SET integer_division = true")
        self.db.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
        self.db.execute("SET TimeZone = 'UTC'")
        for macro in MACROS:
            self.db.execute(f'CREATE TEMP MACRO {macro}')

    def run(self, sql):
        sql = re.sub(r'CREATE\s+MATERIALIZED\s+VIEW', 'CREATE VIEW', sql, flags=re.I)
        sql = re.sub(r'ARRAY<(\w+)>', r'\1[]', sql)
        sql = re.sub(r'CREATE\s+SOURCE', 'CREATE TABLE', sql, flags=re.I)
        sql = re.sub(r"\)\s*WITH\s*\(\s*connector[^)]*\)", ')', sql)
        sql = re.sub(r",\s*WATERMARK FOR [^\n)]*", '', sql)
        if re.match(r'\s*INSERT', sql, re.I):
            try:
                return self.db.execute(re.sub(r'\bINSERT INTO\b', 'INSERT OR REPLACE INTO', sql))
            except duckdb.BinderException:
                pass
        return self.db.execute(sql)

    def changed(self, sql):
        """Runs statements; how many rows the last one changed."""
        count = 0
        for statement in statements(sql):
            rows = self.run(statement).fetchall()
            count = rows[0][0] if rows else 0
        return count


def statements(text):
    return [part for part in re.split(r';\s*(?:\n|$)', text) if part.strip()]


def head(lines):
    return next((i for i, line in enumerate(lines) if not line.startswith('#')), None)


def main(path):
    asked = Asked()
    blocks = re.split(r'\n\s*\n', open(path).read().strip())
    out = []
    for place, block in enumerate(blocks):
        lines = block.split('\n')
        if '# by hand from here' in lines:
            out += blocks[place:]
            break
        at = head(lines)
        if at is None:
            out.append(block)
            continue
        by_hand = any(line.startswith('# by hand') for line in lines)
        instead = [line.removeprefix('# duckdb:').strip() for line in lines[:at] if line.startswith('# duckdb:')]
        words, sql = lines[at].split(), lines[at + 1:]
        sql = sql[:sql.index('----')] if '----' in sql else sql
        text = '\n'.join(sql)
        try:
            if words[0] == 'query' and words[1:2] != ['error'] and not by_hand:
                rows = asked.run('\n'.join(instead) or text).fetchall()
                columns = list(zip(*rows)) if rows else [[None]] * len(asked.db.description)
                words[1:2] = [''.join(kind(column) for column in columns)]
                rows = [[shown(value) for value in row] for row in rows]
                rows = sorted(rows) if 'rowsort' in words else rows
                out.append('\n'.join(lines[:at] + [' '.join(words)] + sql + ['----'] + [' '.join(row) for row in rows]))
                continue
            if words[:2] == ['statement', 'count']:
                count = asked.changed('\n'.join(instead) if instead else text)
                lines[at] = lines[at] if by_hand else f'statement count {count}'
            elif words[:2] == ['statement', 'ok'] and re.match(r'\s*(CREATE|SET)\b', text, re.I):
                asked = Asked()
                replaced = {CREATE.match(one).group(1): one for one in statements('\n'.join(instead)) if CREATE.match(one)}
                ours = [(CREATE.match(one).group(1), one) for one in statements(text) if CREATE.match(one)]
                helpers = [replaced[name] for name in replaced if name not in dict(ours)]
                for name, statement in ours:
                    if name in replaced:
                        while helpers:
                            asked.run(helpers.pop(0))
                    asked.run(replaced.get(name, statement))
            elif words[:2] == ['statement', 'ok']:
                asked.changed('\n'.join(instead) if instead else text)
        except duckdb.Error as error:
            sys.exit(f'{path}: {error}\n{block}')
        out.append('\n'.join(lines))
    open(path, 'w').write('\n\n'.join(out) + '\n')


for path in sys.argv[1:]:
    main(path)
