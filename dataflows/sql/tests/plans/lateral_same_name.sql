-- a is a column inside and a relation outside; top is a column.
CREATE TABLE t (id BIGINT PRIMARY KEY, a BIGINT, top BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT top, a.id, q.m FROM t AS a, LATERAL (SELECT max(b.a) AS m FROM t AS b WHERE b.id = a.id) AS q;
