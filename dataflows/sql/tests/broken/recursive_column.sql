CREATE SOURCE edge (src BIGINT, dst BIGINT) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS
WITH RECURSIVE r AS (SELECT src, dst FROM edge UNION SELECT r.src, e.dst FROM r JOIN edge AS e ON r.dts = e.src) SELECT * FROM r;
