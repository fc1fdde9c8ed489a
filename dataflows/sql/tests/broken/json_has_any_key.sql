CREATE SOURCE s (id BIGINT, j JSON) WITH (connector = 'file', path = 's.jsonl');
CREATE MATERIALIZED VIEW v AS
SELECT id FROM s WHERE j ?| ARRAY['a', 'b'];
