CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE TABLE r (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT a.id, b.id AS other FROM l AS a JOIN l AS b ON a.k IS NOT DISTINCT FROM b.k JOIN r ON r.k = b.k WHERE a.id = b.id + 1;
