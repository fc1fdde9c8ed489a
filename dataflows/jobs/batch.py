#!/usr/bin/env python3
"""batch.py JOB...: answers of ready-made jobs, computed without Highwater.

Loads a job's input files into SQLite and runs one batch query per view over all rows: no streams, no watermarks, no
increments. Writes expected/VIEW.jsonl, which the tests compare with what the job's views hold at the end. It needs Python
with its sqlite3 module and is run by hand, when an input changes. The Nexmark jobs have no rows here: their
expected/VIEW.json holds the number of rows and a hash, computed by DuckDB over the same 200,000 events.
"""
import csv
import json
import pathlib
import sqlite3
import sys

HERE = pathlib.Path(__file__).parent

# Starts of the hopping windows: aligned to the Unix epoch, every `slide` seconds, `size` seconds long.
HOPS = """
WITH RECURSIVE hop(row, start, n) AS (
  SELECT rowid, unixepoch(substr({time}, 1, 19)) / {slide} * {slide}, 1 FROM {table}
  UNION ALL SELECT row, start - {slide}, n + 1 FROM hop WHERE n < {size} / {slide}
)
"""
WINDOW = """strftime('%Y-%m-%dT%H:%M:%S', start, 'unixepoch') AS window_start,
  strftime('%Y-%m-%dT%H:%M:%S', start + {size}, 'unixepoch') AS window_end"""

# Everybody with every boss above.
CHAIN = """
WITH RECURSIVE chain (id, boss) AS (
  SELECT id, boss FROM staff WHERE boss IS NOT NULL
  UNION SELECT chain.id, s.boss FROM chain JOIN staff AS s ON chain.boss = s.id WHERE s.boss IS NOT NULL
)
"""

# Impressions `i` with clicks `c` in the ten minutes after them; milliseconds, because julian days have not enough digits.
MILLIS = '(unixepoch(substr({0}, 1, 19)) * 1000 + CAST(substr({0}, 21, 3) AS INTEGER))'
CLICKED = f"""i.visitor = c.visitor AND i.campaign = c.campaign
  AND {MILLIS.format('c.clicked_at')} - {MILLIS.format('i.shown_at')} BETWEEN 0 AND 600000"""

VIEWS = {
    'ad_attribution': {
        'attributed': f"""
            SELECT i.visitor, i.campaign, replace(i.shown_at, ' ', 'T') AS shown_at, replace(c.clicked_at, ' ', 'T') AS clicked_at,
              c.cents
            FROM impressions AS i JOIN clicks AS c ON {CLICKED}""",
        'by_campaign': f"""
            SELECT i.campaign, substr(i.shown_at, 1, 10) || 'T' || substr(i.shown_at, 12, 2) || ':00:00.000' AS window_start,
              count(*) AS clicks, sum(c.cents) AS cents
            FROM impressions AS i JOIN clicks AS c ON {CLICKED} GROUP BY 1, 2""",
        'outcome': f"""
            SELECT i.visitor, i.campaign, replace(i.shown_at, ' ', 'T') AS shown_at, replace(c.clicked_at, ' ', 'T') AS clicked_at
            FROM impressions AS i LEFT JOIN clicks AS c ON {CLICKED}""",
        'stray': f"""
            SELECT c.visitor, c.campaign, replace(c.clicked_at, ' ', 'T') AS clicked_at
            FROM clicks AS c WHERE NOT EXISTS (SELECT 1 FROM impressions AS i WHERE {CLICKED})""",
    },
    'trending_videos': {
        'trending': HOPS.format(table='watches', time='watched_at', slide=10, size=60) + f"""
            SELECT video, {WINDOW.format(size=60)}, count(*) AS views
            FROM watches JOIN hop ON row = rowid GROUP BY video, start""",
    },
    'live_metrics': {
        'per_minute': """
            SELECT service, substr(at, 1, 10) || 'T' || substr(at, 12, 5) || ':00' AS window_start, count(*) AS requests,
              count(*) FILTER (WHERE status >= 500) AS errors, min(latency_ms) AS min_latency_ms,
              max(latency_ms) AS max_latency_ms, avg(latency_ms) AS avg_latency_ms
            FROM requests GROUP BY 1, 2""",
        'unhealthy': """
            SELECT service, substr(at, 1, 10) || 'T' || substr(at, 12, 5) || ':00' AS window_start,
              sum(status >= 500) AS errors, count(*) AS requests
            FROM requests GROUP BY 1, 2 HAVING sum(status >= 500) * 10 > count(*)""",
    },
    'fraud_velocity': {
        # Cents, because SQLite has no decimals.
        'suspicious': HOPS.format(table='payments', time='paid_at', slide=60, size=600) + f"""
            SELECT card, {WINDOW.format(size=600)}, count(*) AS payments,
              sum(CAST(round(amount * 100) AS INTEGER)) / 100.0 AS spent
            FROM payments JOIN hop ON row = rowid
            GROUP BY card, start HAVING sum(CAST(round(amount * 100) AS INTEGER)) > 100000""",
    },
    'enrichment': {
        'enriched': """
            SELECT click, page, replace(clicked_at, ' ', 'T') AS clicked_at, campaign, advertiser, cost_cents
            FROM clicks JOIN campaigns ON campaign = id""",
        'bill': """
            SELECT advertiser, count(*) AS clicks, sum(cost_cents) AS cost_cents,
              replace(max(clicked_at), ' ', 'T') AS last_click
            FROM clicks JOIN campaigns ON campaign = id GROUP BY advertiser""",
    },
    'org_chart': {
        'headed': """
            WITH RECURSIVE chart AS (
              SELECT id, name, 0 AS depth, name AS path FROM staff WHERE boss IS NULL
              UNION ALL SELECT s.id, s.name, chart.depth + 1, chart.path || ' > ' || s.name
              FROM staff AS s JOIN chart ON s.boss = chart.id)
            SELECT id, name, depth, path FROM chart""",
        'budgets': CHAIN + """
            SELECT b.id, b.name, count(*) AS people, sum(s.salary) AS salaries
            FROM chain JOIN staff AS b ON chain.boss = b.id JOIN staff AS s ON chain.id = s.id GROUP BY b.id, b.name""",
        'circles': CHAIN + """
            SELECT s.id, s.name FROM chain JOIN staff AS s ON chain.id = s.id WHERE chain.id = chain.boss""",
    },
    'price_list': {
        # Any day of this century.
        'current_prices': """
            SELECT id, product, cents FROM prices
            WHERE valid_from <= datetime('now') AND (valid_until > datetime('now') OR valid_until IS NULL)""",
        'cheapest': """
            SELECT product, min(cents) AS cents, count(*) AS offers FROM prices
            WHERE valid_from <= datetime('now') AND (valid_until > datetime('now') OR valid_until IS NULL) GROUP BY product""",
        'discontinued': """
            SELECT product, replace(max(valid_until), ' ', 'T') AS ended_at FROM prices
            GROUP BY product HAVING max(valid_until) <= datetime('now') AND count(*) = count(valid_until)""",
    },
    'flight_delays': {
        'hourly': """
            SELECT origin, substr(scheduled_at, 1, 10) || 'T' || substr(scheduled_at, 12, 2) || ':00:00' AS window_start,
              strftime('%Y-%m-%dT%H:%M:%S', unixepoch(scheduled_at) / 3600 * 3600 + 3600, 'unixepoch') AS window_end,
              count(*) AS departures, count(*) FILTER (WHERE dep_delay > 15) AS delayed, sum(dep_delay) AS delay_minutes,
              max(dep_delay) AS worst
            FROM departures GROUP BY 1, 2""",
        'carriers': """
            SELECT carrier, name, count(*) AS departures, sum(dep_delay) AS delay_minutes, min(dep_delay) AS best,
              max(dep_delay) AS worst, count(DISTINCT tailnum) AS planes
            FROM departures JOIN airlines USING (carrier) GROUP BY 1, 2""",
        'wet': """
            SELECT origin, iif(precip > 0, 'true', 'false') AS wet, sum(n) AS departures, sum(minutes) AS delay_minutes
            FROM (SELECT origin, substr(scheduled_at, 1, 13) || ':00:00' AS hour_start, count(*) AS n, sum(dep_delay) AS minutes
                  FROM departures GROUP BY 1, 2)
            JOIN (SELECT origin, hour_start, max(precip) AS precip FROM weather GROUP BY 1, 2) USING (origin, hour_start)
            GROUP BY 1, 2""",
    },
}


def value(text):
    """A CSV field: an empty one is NULL, a number a number."""
    if text == '':
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def rows(path):
    """The rows of an input file; of a changelog those that are left at its end."""
    if path.suffix == '.csv':
        with open(path, newline='') as file:
            return [{name: value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    read = [json.loads(line) for line in open(path)]
    if read and 'op' in read[0]:
        left = {}
        for row in read:
            op, key = row.pop('op'), row['id']
            if op == '+':
                left[key] = row
            else:
                left.pop(key, None)
        read = list(left.values())
    return read


def answer(job):
    """Writes the expected rows of a job's views."""
    database = sqlite3.connect(':memory:')
    database.row_factory = sqlite3.Row
    for path in sorted((HERE / job / 'input').iterdir()):
        table = rows(path)
        names = list(dict.fromkeys(name for row in table for name in row))
        database.execute(f"CREATE TABLE {path.stem} ({', '.join(names)})")
        marks = ', '.join('?' * len(names))
        values = ([row.get(name) for name in names] for row in table)
        database.executemany(f'INSERT INTO {path.stem} VALUES ({marks})', values)
    expected = HERE / job / 'expected'
    expected.mkdir(exist_ok=True)
    for view, query in VIEWS[job].items():
        lines = []
        for row in database.execute(query):
            words = {'true': True, 'false': False}
            row = {name: words.get(row[name], row[name]) for name in row.keys()}
            lines.append(json.dumps(row) + '\n')
        (expected / f'{view}.jsonl').write_text(''.join(sorted(lines)))
        print(f'{job}/{view}: {len(lines)} rows')


for name in sys.argv[1:] or VIEWS:
    answer(name)
