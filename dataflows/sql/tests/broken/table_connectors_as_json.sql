CREATE TABLE t (x INT, ts TIMESTAMP LATENESS INTERVAL 1 HOUR) WITH (
  'materialized' = 'true',
  'connectors' = '[{"transport": {"name": "file_input", "config": {"path": "a.json"}}, "format": {"name": "json"}}]'
);
CREATE MATERIALIZED VIEW v AS SELECT x FROM t;
