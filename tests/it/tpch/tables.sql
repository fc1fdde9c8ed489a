-- TPC-H's tables, without the columns that no query reads. Rows are pushed as changes.
CREATE TABLE region (r_regionkey INT PRIMARY KEY, r_name VARCHAR) WITH (connector = 'http', format = 'debezium');
CREATE TABLE nation (n_nationkey INT PRIMARY KEY, n_name VARCHAR, n_regionkey INT) WITH (connector = 'http', format = 'debezium');
CREATE TABLE supplier (
  s_suppkey INT PRIMARY KEY, s_name VARCHAR, s_address VARCHAR, s_nationkey INT, s_phone VARCHAR, s_acctbal DECIMAL(15, 2),
  s_comment VARCHAR
) WITH (connector = 'http', format = 'debezium');
CREATE TABLE customer (
  c_custkey INT PRIMARY KEY, c_name VARCHAR, c_address VARCHAR, c_nationkey INT, c_phone VARCHAR, c_acctbal DECIMAL(15, 2),
  c_mktsegment VARCHAR, c_comment VARCHAR
) WITH (connector = 'http', format = 'debezium');
CREATE TABLE part (
  p_partkey INT PRIMARY KEY, p_name VARCHAR, p_mfgr VARCHAR, p_brand VARCHAR, p_type VARCHAR, p_size INT, p_container VARCHAR
) WITH (connector = 'http', format = 'debezium');
CREATE TABLE partsupp (
  ps_partkey INT, ps_suppkey INT, ps_availqty INT, ps_supplycost DECIMAL(15, 2), PRIMARY KEY (ps_partkey, ps_suppkey)
) WITH (connector = 'http', format = 'debezium');
CREATE TABLE orders (
  o_orderkey INT PRIMARY KEY, o_custkey INT, o_orderstatus VARCHAR, o_totalprice DECIMAL(15, 2), o_orderdate DATE,
  o_orderpriority VARCHAR, o_shippriority INT, o_comment VARCHAR
) WITH (connector = 'http', format = 'debezium');
CREATE TABLE lineitem (
  l_orderkey INT, l_partkey INT, l_suppkey INT, l_linenumber INT, l_quantity DECIMAL(15, 2), l_extendedprice DECIMAL(15, 2),
  l_discount DECIMAL(15, 2), l_tax DECIMAL(15, 2), l_returnflag VARCHAR, l_linestatus VARCHAR, l_shipdate DATE,
  l_commitdate DATE, l_receiptdate DATE, l_shipinstruct VARCHAR, l_shipmode VARCHAR, PRIMARY KEY (l_orderkey, l_linenumber)
) WITH (connector = 'http', format = 'debezium');
-- Not of TPC-H: for what its queries do not ask (more.sql). Columns are often NULL.
CREATE TABLE note (id INT PRIMARY KEY, tag INT, ref INT, size INT) WITH (connector = 'http', format = 'debezium');
