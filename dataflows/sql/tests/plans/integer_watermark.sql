-- Numbers order rows as times do.
CREATE TABLE readings (id BIGINT PRIMARY KEY, step BIGINT NOT NULL, WATERMARK FOR step AS step - 100);
CREATE MATERIALIZED VIEW latest AS SELECT max(step) AS step FROM readings;
