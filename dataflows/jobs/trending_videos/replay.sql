-- Trending videos over ten minutes that were recorded: the same view as in `job.sql`, on rows that do not change.
CREATE SOURCE watch (
  video VARCHAR,
  viewer BIGINT,
  watched_at TIMESTAMP(3),
  WATERMARK FOR watched_at AS watched_at - INTERVAL '2' SECOND
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/trending_videos/input/watches.jsonl',
  format = 'json'
);

CREATE MATERIALIZED VIEW trending AS
SELECT video, window_start, window_end, count(*) AS views
FROM TABLE(HOP(TABLE watch, DESCRIPTOR(watched_at), INTERVAL '10' SECOND, INTERVAL '1' MINUTE))
GROUP BY video, window_start, window_end;
