CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE TABLE r (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT id, (SELECT count(*) FROM r WHERE r.id < l.k) AS smaller FROM l;
