-- Price list: the prices that hold now. A price comes into the view when its time begins and goes when it ends, by the
-- clock, although no row comes then.
--
-- `NOW()` is the epoch, so that every view of the job sees the same moment, and a replay the same moments. The periods here
-- are so wide that the result is the same on any day of this century; change one to a minute from now and watch it with
-- `highwater tail`. `discontinued` shows that a condition on the clock may stand over an aggregate as well.
CREATE TABLE prices (
  id BIGINT,
  product VARCHAR,
  cents BIGINT,
  valid_from TIMESTAMP(3),
  valid_until TIMESTAMP(3)
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/price_list/input/prices.jsonl',
  format = 'changelog'
);

CREATE MATERIALIZED VIEW current_prices AS
SELECT id, product, cents
FROM prices
WHERE valid_from <= NOW() AND (valid_until > NOW() OR valid_until IS NULL);

CREATE MATERIALIZED VIEW cheapest AS
SELECT product, min(cents) AS cents, count(*) AS offers
FROM current_prices
GROUP BY product;

CREATE MATERIALIZED VIEW discontinued AS
SELECT product, max(valid_until) AS ended_at
FROM prices
GROUP BY product
HAVING max(valid_until) <= NOW() AND count(*) = count(valid_until);
