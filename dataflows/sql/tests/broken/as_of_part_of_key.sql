CREATE SOURCE s (id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT, region VARCHAR, name VARCHAR, since TIMESTAMP(3), PRIMARY KEY (id, region), WATERMARK FOR since AS since);
CREATE MATERIALIZED VIEW v AS
SELECT s.id, t.region, t.name FROM s JOIN t FOR SYSTEM_TIME AS OF s.at ON s.id = t.id;
