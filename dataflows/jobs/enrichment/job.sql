-- Enrichment: clicks joined with their campaigns, which change and end while the clicks come.
--
-- `campaign` has a primary key, so each of its rows replaces the one before it, and `"op": "-"` removes it. A click's row is
-- corrected whenever its campaign changes, and goes when the campaign is retracted: the views are always what the join of
-- all clicks with the campaigns of now would give, in whatever order the rows of the two files arrive.
CREATE SOURCE click (
  click BIGINT,
  campaign BIGINT,
  page VARCHAR,
  clicked_at TIMESTAMP(3)
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/enrichment/input/clicks.jsonl',
  format = 'json'
);

CREATE TABLE campaigns (
  id BIGINT,
  advertiser VARCHAR,
  cost_cents BIGINT,
  PRIMARY KEY (id)
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/enrichment/input/campaigns.jsonl',
  format = 'changelog'
);

CREATE MATERIALIZED VIEW enriched AS
SELECT c.click, c.page, c.clicked_at, c.campaign, g.advertiser, g.cost_cents
FROM click AS c JOIN campaigns AS g ON c.campaign = g.id;

CREATE MATERIALIZED VIEW bill AS
SELECT advertiser, count(*) AS clicks, sum(cost_cents) AS cost_cents, max(clicked_at) AS last_click
FROM enriched
GROUP BY advertiser;
