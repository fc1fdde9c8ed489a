CREATE TABLE edge (src BIGINT, dst BIGINT, cost BIGINT) WITH (connector = 'http', format = 'changelog');
CREATE TABLE person (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, boss BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW reach AS
WITH RECURSIVE r (src, dst) AS (
  SELECT src, dst FROM edge
  UNION
  SELECT r.src, e.dst FROM r JOIN edge AS e ON r.dst = e.src
)
SELECT src, dst FROM r;
CREATE MATERIALIZED VIEW doubled AS
WITH RECURSIVE r AS (SELECT src, dst FROM edge UNION SELECT a.src, b.dst FROM r AS a JOIN r AS b ON a.dst = b.src)
SELECT src, count(*) AS n FROM r GROUP BY src;
CREATE MATERIALIZED VIEW chart AS
WITH RECURSIVE named AS (SELECT id, name, boss FROM person WHERE name <> 'ghost'),
chain AS (
  SELECT id, name AS path, 1 AS depth FROM named WHERE boss IS NULL
  UNION ALL
  SELECT p.id, c.path || '/' || p.name, c.depth + 1 FROM named AS p JOIN chain AS c ON p.boss = c.id
)
SELECT * FROM chain WHERE depth IS NOT NULL;
CREATE MATERIALIZED VIEW numbers AS WITH RECURSIVE n AS (SELECT 1 AS i UNION SELECT i + 1 FROM n WHERE i < 10) SELECT i FROM n;
CREATE MATERIALIZED VIEW parity AS
WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 20)
  even (n BIGINT) AS (SELECT 0 UNION SELECT odd.n + 1 FROM odd WHERE odd.n < 9),
  odd (n BIGINT) AS (SELECT n + 1 FROM even WHERE n < 9)
SELECT 'even' AS kind, n FROM even UNION ALL SELECT 'odd', n FROM odd;
CREATE MATERIALIZED VIEW shortest AS
WITH MUTUALLY RECURSIVE
  best (node BIGINT, cost BIGINT) AS (
    SELECT node, min(cost) FROM (
      SELECT 1 AS node, 0 AS cost UNION ALL SELECT e.dst, b.cost + e.cost FROM best AS b JOIN edge AS e ON b.node = e.src
    ) AS paths GROUP BY node
  )
SELECT node, cost FROM best;
