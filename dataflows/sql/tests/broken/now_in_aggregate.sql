CREATE SOURCE bid (auction BIGINT, ts TIMESTAMP(3)) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT auction, count(*) FILTER (WHERE ts > NOW() - INTERVAL '1' HOUR) AS recent FROM bid GROUP BY auction;
