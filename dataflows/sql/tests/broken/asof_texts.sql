CREATE SOURCE s (id BIGINT, x VARCHAR) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT PRIMARY KEY, x VARCHAR);
CREATE MATERIALIZED VIEW v AS SELECT s.id, t.x FROM s ASOF JOIN t ON s.id = t.id AND s.x >= t.x;
