CREATE SOURCE bid (auction BIGINT, ts TIMESTAMP(3)) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT auction FROM bid WHERE extract(hour FROM NOW()) = 5;
