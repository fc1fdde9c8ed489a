CREATE SOURCE s (id BIGINT, o BIGINT METADATA FROM 'offset') WITH (connector = 'file', path = 's.jsonl');
CREATE MATERIALIZED VIEW v AS
SELECT id FROM s;
