SET 'table.exec.state.ttl' = '1 h';
SET 'table.exec.source.idle-timeout' = '5 s';
SET 'parallelism.default' = '4';
SET 'execution.runtime-mode' = 'streaming';
CREATE TEMPORARY TABLE `bid` (
  `auction` BIGINT COMMENT 'which',
  price DECIMAL(10, 2),
  buyer ROW(`name` STRING NOT NULL, at ROW<x INT 'east', y INT>),
  ts TIMESTAMP(3) WITH LOCAL TIME ZONE,
  double_price AS price * 2,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) COMMENT 'bids' WITH (
  'connector' = 'datagen', 'rows-per-second' = '10', 'fields.auction.kind' = 'sequence', 'fields.auction.start' = '1',
  'fields.auction.end' = '100', 'fields.price.null-rate' = '0.1'
);
CREATE TEMPORARY VIEW dear (auction, price) COMMENT 'those above ten' AS SELECT auction, price FROM bid WHERE price > 10;
CREATE TABLE printed (auction BIGINT, price DECIMAL(10, 2), PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector' = 'print');
CREATE TABLE filed (auction BIGINT, `day` STRING) PARTITIONED BY (`day`) WITH (
  'connector' = 'filesystem', 'path' = 'file:///tmp/bids', 'format' = 'json'
);
CREATE TABLE gone WITH ('connector' = 'blackhole') LIKE bid (EXCLUDING ALL);
CREATE TABLE counted WITH ('connector' = 'blackhole') AS SELECT auction, count(*) AS bids FROM bid GROUP BY auction;
EXECUTE STATEMENT SET BEGIN
  INSERT INTO printed SELECT /*+ STATE_TTL('bid' = '1d') */ auction, max(price) FROM dear GROUP BY auction;
  INSERT INTO default_catalog.default_database.filed SELECT auction, DATE_FORMAT(ts, 'yyyy-MM-dd') FROM bid;
  INSERT INTO gone SELECT auction, price, buyer, ts FROM bid;
END;
