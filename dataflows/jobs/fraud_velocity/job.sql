-- Fraud velocity: cards that spend more than 1000 within ten minutes, looked at every minute.
--
-- EMIT FINAL gives each ten minutes once, when the watermark says that no payment of theirs is still to come: nothing that
-- was reported is ever taken back. Leave it out and a card is reported at the payment that crosses the limit.
CREATE SOURCE payment (
  card VARCHAR,
  amount DECIMAL(12, 2),
  merchant VARCHAR,
  paid_at TIMESTAMP(3),
  WATERMARK FOR paid_at AS paid_at - INTERVAL '30' SECOND
) WITH (
  connector = 'file',
  path = 'dataflows/jobs/fraud_velocity/input/payments.csv',
  format = 'csv'
);

CREATE MATERIALIZED VIEW suspicious AS
SELECT card, window_start, window_end, count(*) AS payments, sum(amount) AS spent
FROM TABLE(HOP(TABLE payment, DESCRIPTOR(paid_at), INTERVAL '1' MINUTE, INTERVAL '10' MINUTES))
GROUP BY card, window_start, window_end
HAVING sum(amount) > 1000
EMIT FINAL;
