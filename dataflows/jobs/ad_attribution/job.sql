-- Ad attribution: clicks within ten minutes of the impression that they belong to.
--
-- The two times of a pair are near each other, so the watermark says which impressions and clicks can still have a partner:
-- the others are forgotten. Without the second condition both sides would be kept for ever.
CREATE SOURCE impression (
  visitor VARCHAR,
  campaign VARCHAR,
  shown_at TIMESTAMP(3),
  WATERMARK FOR shown_at AS shown_at - INTERVAL '30' SECOND
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/ad_attribution/input/impressions.csv',
  format = 'csv'
);

CREATE SOURCE click (
  visitor VARCHAR,
  campaign VARCHAR,
  cents INT,
  clicked_at TIMESTAMP(3),
  WATERMARK FOR clicked_at AS clicked_at - INTERVAL '30' SECOND
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/ad_attribution/input/clicks.csv',
  format = 'csv'
);

CREATE MATERIALIZED VIEW attributed AS
SELECT i.visitor, i.campaign, i.shown_at, c.clicked_at, c.cents
FROM impression AS i JOIN click AS c
  ON i.visitor = c.visitor AND i.campaign = c.campaign
  AND c.clicked_at BETWEEN i.shown_at AND i.shown_at + INTERVAL '10' MINUTE;

-- A click comes up to ten minutes after its impression, so these windows close ten minutes after their end.
CREATE MATERIALIZED VIEW by_campaign AS
SELECT campaign, window_start, count(*) AS clicks, sum(cents) AS cents
FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(shown_at), INTERVAL '1' HOUR))
GROUP BY campaign, window_start, window_end
EMIT FINAL;

-- Each impression once, when no click can come any more: beside its clicks, or alone.
CREATE MATERIALIZED VIEW outcome AS
SELECT i.visitor, i.campaign, i.shown_at, c.clicked_at
FROM impression AS i LEFT JOIN click AS c
  ON i.visitor = c.visitor AND i.campaign = c.campaign
  AND c.clicked_at >= i.shown_at AND c.clicked_at <= i.shown_at + INTERVAL '10' MINUTE
EMIT FINAL;

-- Clicks without an impression. Such a click is given at once, and taken back if its impression comes late.
CREATE MATERIALIZED VIEW stray AS
SELECT c.visitor, c.campaign, c.clicked_at
FROM click AS c
WHERE NOT EXISTS (
  SELECT 1 FROM impression AS i
  WHERE i.visitor = c.visitor AND i.campaign = c.campaign
    AND i.shown_at BETWEEN c.clicked_at - INTERVAL '10' MINUTE AND c.clicked_at
);
