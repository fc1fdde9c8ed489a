CREATE SOURCE bid (
  auction BIGINT, price BIGINT, ts TIMESTAMP(3), at TIMESTAMP_LTZ(6), day DATE, nanos TIMESTAMP(9),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE TABLE offer (id BIGINT PRIMARY KEY, auction BIGINT, opens TIMESTAMP, closes TIMESTAMP) WITH (connector = 'http');
CREATE MATERIALIZED VIEW last_hour AS SELECT auction, price FROM bid WHERE ts > NOW() - INTERVAL '1' HOUR AND price > 10;
CREATE MATERIALIZED VIEW not_before AS SELECT auction FROM bid WHERE at <= CURRENT_TIMESTAMP;
CREATE MATERIALIZED VIEW around AS SELECT auction FROM bid WHERE ts BETWEEN NOW() - INTERVAL '1' MINUTE AND NOW() + INTERVAL '2' DAY;
CREATE MATERIALIZED VIEW valid AS SELECT id FROM offer WHERE LOCALTIMESTAMP >= opens AND LOCALTIMESTAMP < closes;
CREATE MATERIALIZED VIEW today AS SELECT auction FROM bid WHERE day = CURRENT_DATE;
CREATE MATERIALIZED VIEW this_month AS SELECT auction FROM bid WHERE ts >= date_trunc('month', now());
CREATE MATERIALIZED VIEW last_months AS SELECT auction FROM bid WHERE nanos > now() - INTERVAL '3' MONTH;
CREATE MATERIALIZED VIEW age AS SELECT auction FROM bid WHERE NOW() - ts < INTERVAL '1' DAY;
CREATE MATERIALIZED VIEW kept AS SELECT auction FROM bid WHERE ts > now() - INTERVAL '1' HOUR OR price > 1000;
CREATE MATERIALIZED VIEW quiet AS SELECT auction, max(ts) AS last FROM bid GROUP BY auction HAVING max(ts) < NOW() - INTERVAL '1' MINUTE;
CREATE MATERIALIZED VIEW of_offers AS
SELECT b.auction, o.id FROM bid b JOIN offer o ON b.auction = o.auction AND o.closes > NOW() WHERE b.ts > NOW() - INTERVAL '1' HOUR;
CREATE MATERIALIZED VIEW pairs AS
SELECT b.auction, o.id FROM bid b JOIN offer o ON b.auction = o.auction AND b.ts > NOW() - (o.closes - o.opens);
CREATE MATERIALIZED VIEW both AS
SELECT auction FROM bid WHERE ts > NOW() - INTERVAL '1' HOUR AND at > NOW() - INTERVAL '1' HOUR;
