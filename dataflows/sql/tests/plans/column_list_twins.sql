-- One column twice under two names of a list.
CREATE TABLE edge (src BIGINT, dst BIGINT, PRIMARY KEY (src, dst));
CREATE MATERIALIZED VIEW a (one, two) AS SELECT src, src FROM edge;
CREATE MATERIALIZED VIEW b AS
WITH t (one, two) AS (SELECT dst, dst FROM edge), u AS (SELECT s.x, s.y FROM (SELECT one, one FROM t) AS s (x, y))
SELECT x + y AS z FROM u;
CREATE MATERIALIZED VIEW c AS
WITH RECURSIVE r (root, src) AS (SELECT src, src FROM edge UNION SELECT r.root, e.dst FROM r JOIN edge AS e ON e.src = r.src)
SELECT root, src FROM r;
