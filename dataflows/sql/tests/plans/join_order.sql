-- Written in the order of the names: customers and suppliers of a nation would be paired first.
CREATE TABLE nation (n_nationkey BIGINT PRIMARY KEY, n_name VARCHAR, n_regionkey BIGINT) WITH (connector='http');
CREATE TABLE region (r_regionkey BIGINT PRIMARY KEY, r_name VARCHAR) WITH (connector='http');
CREATE TABLE customer (c_custkey BIGINT PRIMARY KEY, c_nationkey BIGINT) WITH (connector='http');
CREATE TABLE supplier (s_suppkey BIGINT PRIMARY KEY, s_nationkey BIGINT) WITH (connector='http');
CREATE TABLE orders (o_orderkey BIGINT PRIMARY KEY, o_custkey BIGINT, o_orderdate DATE) WITH (connector='http');
CREATE TABLE lineitem (l_orderkey BIGINT, l_linenumber BIGINT, l_suppkey BIGINT, l_extendedprice DECIMAL(12,2), l_discount DECIMAL(12,2), PRIMARY KEY (l_orderkey, l_linenumber)) WITH (connector='http');
CREATE MATERIALIZED VIEW q5 AS
SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue
FROM customer, supplier, lineitem, orders, nation, region
WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_suppkey = s_suppkey AND c_nationkey = s_nationkey
 AND s_nationkey = n_nationkey AND n_regionkey = r_regionkey AND r_name = 'ASIA' AND o_orderdate >= DATE '1994-01-01'
GROUP BY n_name;

-- Few rows between the joins as it is: it stays.
CREATE MATERIALIZED VIEW as_written AS
SELECT o_orderkey, c_custkey, n_name FROM orders JOIN customer ON o_custkey = c_custkey JOIN nation ON c_nationkey = n_nationkey;

-- On times, too.
CREATE SOURCE click (id BIGINT, page BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH (connector='http');
CREATE SOURCE buy (id BIGINT, page BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH (connector='http');
CREATE MATERIALIZED VIEW on_times AS
SELECT c.id, b.id AS buy, n_name
FROM TABLE(TUMBLE(TABLE click, DESCRIPTOR(at), INTERVAL '1' MINUTE)) c
JOIN TABLE(TUMBLE(TABLE buy, DESCRIPTOR(at), INTERVAL '1' MINUTE)) b
  ON c.page = b.page AND c.window_start = b.window_start AND c.window_end = b.window_end
JOIN nation ON n_nationkey = c.page AND n_nationkey = b.page;
