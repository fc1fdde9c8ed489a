CREATE SOURCE s (id BIGINT, at TIMESTAMP(3)) WITH (connector = 'http', format = 'json');
CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR, since TIMESTAMP(3), WATERMARK FOR since AS since);
CREATE MATERIALIZED VIEW v AS
SELECT s.id, t.name FROM s JOIN t FOR SYSTEM_TIME AS OF s.at ON s.id = t.id;
