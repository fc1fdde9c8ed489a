CREATE SOURCE s (id BIGINT, k BIGINT, at TIMESTAMP(3), items BIGINT[], WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH (connector = 'file', path = 's.jsonl');
CREATE MATERIALIZED VIEW v AS
SELECT id, t.item FROM s LEFT JOIN UNNEST(items) AS t(item) ON t.item > 3;
