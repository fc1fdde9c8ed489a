CREATE SOURCE bid (auction BIGINT, ts TIMESTAMP(3)) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS SELECT auction FROM bid EMIT FINAL;
