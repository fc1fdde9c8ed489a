CREATE SOURCE s (id BIGINT, x BIGINT) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT PRIMARY KEY, x BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT s.id, t.x FROM s ASOF JOIN t ON s.id = t.id;
