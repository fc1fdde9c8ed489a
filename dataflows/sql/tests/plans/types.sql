CREATE SOURCE s (
  a TINYINT, b SMALLINT, c INT, d BIGINT NOT NULL, e REAL, f DOUBLE, g DECIMAL(10, 2), h BOOLEAN, i CHAR(3), j STRING,
  k BYTES, l DATE, m TIME, n TIMESTAMP, o TIMESTAMP(9), p TIMESTAMP(3) WITH TIME ZONE, q TIMESTAMPTZ, r ARRAY<BIGINT>,
  s ROW<x INT, y VARCHAR>, t BIGINT GENERATED ALWAYS AS (c + 1), u AS s.y -- a comment
) WITH ('connector' = 'file', properties.max.rows = 10, skip = true /* another */);
CREATE MATERIALIZED VIEW v AS SELECT * FROM s;
