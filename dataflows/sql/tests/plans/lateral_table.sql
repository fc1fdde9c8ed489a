CREATE SOURCE bid (auction BIGINT, tags VARCHAR, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT auction, tag FROM bid, LATERAL TABLE(string_to_table(tags, ',')) AS t (tag);
CREATE MATERIALIZED VIEW w AS SELECT auction, tag FROM bid LEFT JOIN LATERAL TABLE(string_to_table(tags, ',')) AS t (tag) ON TRUE;
CREATE MATERIALIZED VIEW x AS
SELECT window_end, count(*) AS n
FROM TABLE(TUMBLE(DATA => TABLE (SELECT * FROM bid WHERE auction > 3), TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
