CREATE SOURCE nexmark (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, `emailAddress` VARCHAR, `creditCard` VARCHAR, city VARCHAR, state VARCHAR,
             `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, `itemName` VARCHAR, description VARCHAR, `initialBid` BIGINT, reserve BIGINT,
              `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime`
                     ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH (connector = 'nexmark', 'rows' = 200000);

CREATE VIEW person AS
  SELECT person.id, person.name, person.`emailAddress`, person.`creditCard`, person.city, person.state, `dateTime`,
         person.extra
  FROM nexmark WHERE event_type = 0;

CREATE VIEW auction AS
  SELECT auction.id, auction.`itemName`, auction.description, auction.`initialBid`, auction.reserve, `dateTime`,
         auction.expires, auction.seller, auction.category, auction.extra
  FROM nexmark WHERE event_type = 1;

CREATE VIEW bid AS
  SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra
  FROM nexmark WHERE event_type = 2;

CREATE MATERIALIZED VIEW q5 AS
  SELECT AB.auction, AB.num, AB.starttime
  FROM (
    SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  ) AS AB
  JOIN (
    SELECT max(CB.num) AS maxn, CB.starttime, CB.endtime
    FROM (
      SELECT count(*) AS num, window_start AS starttime, window_end AS endtime
      FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
      GROUP BY auction, window_start, window_end
    ) AS CB
    GROUP BY CB.starttime, CB.endtime
  ) AS MB
  ON AB.starttime = MB.starttime AND AB.endtime = MB.endtime AND AB.num >= MB.maxn
EMIT FINAL;
