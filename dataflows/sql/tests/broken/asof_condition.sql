CREATE SOURCE s (id BIGINT, x BIGINT, y BIGINT) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT PRIMARY KEY, x BIGINT, y BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT s.id, t.x FROM s ASOF LEFT JOIN t ON s.id = t.id AND s.x >= t.x AND s.y <> t.y;
