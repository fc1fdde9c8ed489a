CREATE SOURCE s (id BIGINT, text VARCHAR, j JSON) WITH (connector = 'file', path = 's.jsonl');
CREATE MATERIALIZED VIEW v AS SELECT id, generate_series(1, id) AS n FROM s;
CREATE MATERIALIZED VIEW w AS SELECT string_to_table(text, ','), json_object_keys(j) AS key FROM s;
