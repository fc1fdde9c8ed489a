CREATE SOURCE a (id BIGINT, x BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'file');
CREATE SOURCE b (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT a.id, first_value(x) AS f FROM a JOIN b ON a.id = b.id AND b.ts BETWEEN a.at AND a.at + INTERVAL '1' HOUR GROUP BY a.id;
