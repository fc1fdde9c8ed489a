CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE TABLE r (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT l.id, s.id AS other, s.number
FROM l LEFT JOIN LATERAL (SELECT id, row_number() OVER (ORDER BY id) AS number FROM r WHERE r.k = l.k) AS s ON TRUE;
