-- ASOF JOIN in both spellings.
CREATE SOURCE trades (symbol VARCHAR, price BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at)
WITH (connector = 'http', format = 'json');
CREATE TABLE quotes (id BIGINT PRIMARY KEY, symbol VARCHAR, bid BIGINT, at TIMESTAMP(6));

CREATE MATERIALIZED VIEW snowflake AS
SELECT t.symbol, t.price, q.bid
FROM trades AS t ASOF JOIN quotes AS q MATCH_CONDITION (t.at >= q.at) ON t.symbol = q.symbol
WHERE t.price > 0;

CREATE MATERIALIZED VIEW duckdb AS
SELECT t.symbol, t.price, q.bid
FROM trades t ASOF LEFT JOIN quotes q ON t.symbol = q.symbol AND q.at > t.at AND q.bid > 0;

CREATE MATERIALIZED VIEW over_a_view AS
SELECT symbol, a.price, b.bid FROM snowflake a ASOF JOIN (SELECT bid FROM quotes) b MATCH_CONDITION (a.price < b.bid);
