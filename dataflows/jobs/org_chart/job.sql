-- Org chart: who works for whom, over all levels, while people join, move to another boss and leave.
--
-- `staff` has a primary key, so a row replaces the one before it, and `"op": "-"` removes it. When somebody moves, everybody below
-- moves along; when a boss leaves, what was below is cut off from the top. `headed` goes down from the top; `budgets`
-- goes up from everybody at once and adds up what is below each boss. In `circles` are those who end up as their own boss,
-- who would hold up each other for ever if rows were only ever added.
CREATE TABLE staff (
  id BIGINT,
  name VARCHAR,
  boss BIGINT,
  salary BIGINT,
  PRIMARY KEY (id)
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/org_chart/input/staff.jsonl',
  format = 'changelog'
);

CREATE MATERIALIZED VIEW headed AS
WITH RECURSIVE chart AS (
  SELECT id, name, 0 AS depth, name AS path
  FROM staff
  WHERE boss IS NULL
  UNION ALL
  SELECT s.id, s.name, chart.depth + 1, chart.path || ' > ' || s.name
  FROM staff AS s JOIN chart ON s.boss = chart.id
)
SELECT id, name, depth, path FROM chart;

CREATE MATERIALIZED VIEW budgets AS
WITH RECURSIVE chain (id, boss) AS (
  SELECT id, boss FROM staff WHERE boss IS NOT NULL
  UNION
  SELECT chain.id, s.boss FROM chain JOIN staff AS s ON chain.boss = s.id WHERE s.boss IS NOT NULL
)
SELECT b.id, b.name, count(*) AS people, sum(s.salary) AS salaries
FROM chain JOIN staff AS b ON chain.boss = b.id JOIN staff AS s ON chain.id = s.id
GROUP BY b.id, b.name;

CREATE MATERIALIZED VIEW circles AS
WITH RECURSIVE chain (id, boss) AS (
  SELECT id, boss FROM staff WHERE boss IS NOT NULL
  UNION
  SELECT chain.id, s.boss FROM chain JOIN staff AS s ON chain.boss = s.id WHERE s.boss IS NOT NULL
)
SELECT s.id, s.name FROM chain JOIN staff AS s ON chain.id = s.id WHERE chain.id = chain.boss;
