-- Trending videos: how often each video was watched per minute, a new minute starting every ten seconds.
--
-- The rows are made up (connector 'datagen'), about 500 a second and up to two seconds out of order, so the job runs with
-- nothing beside it. `replay.sql` is the same job over a recorded file; its result is in expected/.
CREATE SOURCE watch (
  video VARCHAR,
  viewer BIGINT,
  watched_at TIMESTAMP(3),
  WATERMARK FOR watched_at AS watched_at - INTERVAL '2' SECOND
) WITH (
  connector = 'datagen',
  rate = '500',
  fields.video.values = 'first light, night train, paper boats, slow river, tin roof',
  fields.video.skew = '0.8',
  fields.viewer.max = '100000',
  fields.watched_at.max_delay = '2 s'
);

-- Open minutes grow while you look; a minute is final when the watermark has passed its end.
CREATE MATERIALIZED VIEW trending AS
SELECT video, window_start, window_end, count(*) AS views
FROM TABLE(HOP(TABLE watch, DESCRIPTOR(watched_at), INTERVAL '10' SECOND, INTERVAL '1' MINUTE))
GROUP BY video, window_start, window_end;
