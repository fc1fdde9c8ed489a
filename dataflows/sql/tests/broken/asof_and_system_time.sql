CREATE TABLE l (id BIGINT PRIMARY KEY, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'http');
CREATE SOURCE s (id BIGINT, k BIGINT, at TIMESTAMP(3), items BIGINT[], WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH (connector = 'file', path = 's.jsonl');
CREATE MATERIALIZED VIEW v AS
SELECT s.id FROM s ASOF JOIN l FOR SYSTEM_TIME AS OF s.at ON s.id = l.id AND s.at >= l.at;
