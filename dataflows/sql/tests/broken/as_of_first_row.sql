CREATE SOURCE s (id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'http', format = 'json');
CREATE SOURCE t (id BIGINT, name VARCHAR, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH (connector = 'http', format = 'json');
CREATE VIEW first_names AS SELECT id, name FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY at) AS rn FROM t) WHERE rn = 1;
CREATE MATERIALIZED VIEW v AS
SELECT s.id, f.name FROM s JOIN first_names FOR SYSTEM_TIME AS OF s.at AS f ON s.id = f.id;
