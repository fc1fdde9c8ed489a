-- Live metrics: requests, errors and latency per service and minute.
--
-- `per_minute` moves with every request; `unhealthy` reads it and keeps the minutes in which more than every tenth request
-- failed. A request without a latency counts as a request, not in the latencies: aggregates skip NULL.
CREATE SOURCE request (
  service VARCHAR,
  status INT,
  latency_ms DOUBLE,
  at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/live_metrics/input/requests.jsonl',
  format = 'json'
);

CREATE MATERIALIZED VIEW per_minute AS
SELECT
  service,
  window_start,
  count(*) AS requests,
  count(*) FILTER (WHERE status >= 500) AS errors,
  min(latency_ms) AS min_latency_ms,
  max(latency_ms) AS max_latency_ms,
  avg(latency_ms) AS avg_latency_ms
FROM TABLE(TUMBLE(TABLE request, DESCRIPTOR(at), INTERVAL '1' MINUTE))
GROUP BY service, window_start, window_end;

CREATE MATERIALIZED VIEW unhealthy AS
SELECT service, window_start, errors, requests
FROM per_minute
WHERE errors * 10 > requests;
