CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT DATE_FORMAT(ts, 'yyyy-MM-dd') AS day, HOUR(ts) AS hour, SPLIT_INDEX(channel, '/', 2) AS part,
       REGEXP_EXTRACT(channel, '([a-z]+)', 1) AS word, MOD(auction, 10) AS rest, COUNT_CHAR(channel, 'c') AS c,
       FLOOR(ts TO MINUTE) AS minute, TIMESTAMPADD(HOUR, 2, ts) AS later, TIMESTAMPDIFF(SECOND, ts, ts) AS none,
       EXTRACT(DAY FROM ts) AS d, upper(channel) AS up, channel || '!' AS loud, reverse(channel) AS backwards, -price AS negative
FROM bid;
