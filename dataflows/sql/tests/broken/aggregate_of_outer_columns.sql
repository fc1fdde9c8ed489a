CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE TABLE r (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT id, (SELECT sum(l.k) FROM r WHERE r.k = l.id) AS total FROM l;
