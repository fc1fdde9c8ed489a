CREATE SOURCE orders (
  id BIGINT, items ARRAY<ROW<sku VARCHAR, qty INT>>, tags ARRAY<VARCHAR>, prices MAP<VARCHAR, BIGINT>, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'orders');
CREATE TABLE product (sku VARCHAR PRIMARY KEY, name VARCHAR);
CREATE MATERIALIZED VIEW tagged AS SELECT o.id, t.tag FROM orders AS o CROSS JOIN UNNEST(o.tags) AS t(tag) WHERE o.id > 3 AND t.tag <> 'x';
CREATE MATERIALIZED VIEW numbered AS SELECT id, tag, n FROM orders LEFT JOIN UNNEST(tags) WITH ORDINALITY AS t(tag, n) ON TRUE;
CREATE MATERIALIZED VIEW fields AS
SELECT o.id, i.sku, i.qty, p.name FROM orders o, UNNEST(o.items) AS i JOIN product p ON p.sku = i.sku;
CREATE MATERIALIZED VIEW windowed AS
SELECT window_start, t.tag, count(*) AS n
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) CROSS JOIN UNNEST(tags) AS t(tag)
GROUP BY window_start, window_end, t.tag;
CREATE MATERIALIZED VIEW priced AS SELECT id, p.k, p.v FROM orders CROSS JOIN UNNEST(prices) AS p(k, v);
CREATE MATERIALIZED VIEW selected AS SELECT id, unnest(tags) AS tag FROM orders;
CREATE MATERIALIZED VIEW numbers AS SELECT n FROM generate_series(1, 3) AS g(n);
CREATE MATERIALIZED VIEW words AS SELECT o.id, w FROM orders o CROSS JOIN LATERAL string_to_table(o.tags[1], ' ') AS w;
