CREATE SOURCE s (id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR);
CREATE MATERIALIZED VIEW v AS
SELECT s.id, t.name FROM s JOIN t FOR SYSTEM_TIME AS OF s.at ON s.id = t.id;
