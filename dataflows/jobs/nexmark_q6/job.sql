-- Nexmark q6, average selling price by seller: for each winning bid the mean price of its seller's last eleven.
-- Ordered by the bid's time, then the auction, so that the answer does not depend on who came first.
-- Nexmark is a made-up auction site: persons, auctions and bids in one interleaved stream, 10,000 events a second.
CREATE SOURCE nexmark (
  event_type INT,
  person ROW<
    id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
    dateTime TIMESTAMP(3), extra VARCHAR>,
  auction ROW<
    id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
    dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<
    auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
    dateTime TIMESTAMP(3), extra VARCHAR>,
  dateTime AS CASE
    WHEN event_type = 0 THEN person.dateTime
    WHEN event_type = 1 THEN auction.dateTime
    ELSE bid.dateTime
  END,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (connector = 'nexmark', events = '200000');

CREATE VIEW auction AS
SELECT
  auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve, dateTime, auction.expires,
  auction.seller, auction.category, auction.extra
FROM nexmark WHERE event_type = 1;

CREATE VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, dateTime, bid.extra
FROM nexmark WHERE event_type = 2;

CREATE MATERIALIZED VIEW q6 AS
SELECT
  seller, id,
  AVG(price) OVER last_eleven AS avg,
  SUM(price) OVER last_eleven AS check_sum
FROM (
  SELECT
    A.id, A.seller, B.price, B.dateTime AS bid_dateTime,
    ROW_NUMBER() OVER (
      PARTITION BY A.id ORDER BY B.price DESC, B.dateTime ASC, B.bidder ASC, B.extra ASC
    ) AS rownum
  FROM auction A, bid B
  WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
)
WHERE rownum <= 1
WINDOW last_eleven AS (PARTITION BY seller ORDER BY bid_dateTime, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW);
