CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE TABLE r (id BIGINT PRIMARY KEY, k BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT l.id, r.id AS other FROM l LEFT JOIN r ON l.k = r.k AND EXISTS (SELECT 1 FROM r AS s WHERE s.k = l.id + r.id);
