CREATE MATERIALIZED VIEW v AS SELECT column1 AS id, upper(column2) AS name FROM (VALUES (1, 'a'), (2, 'b')) AS t;
CREATE MATERIALIZED VIEW one AS SELECT 1 AS a, 'x' AS b;
