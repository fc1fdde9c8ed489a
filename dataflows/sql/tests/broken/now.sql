CREATE SOURCE bid (auction BIGINT, ts TIMESTAMP(3)) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT auction, NOW() - ts AS age FROM bid;
