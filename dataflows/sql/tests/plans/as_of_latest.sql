CREATE SOURCE orders (id BIGINT, currency VARCHAR, amount BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'http');
CREATE SOURCE rates (currency VARCHAR, rate BIGINT, valid_from TIMESTAMP(3), WATERMARK FOR valid_from AS valid_from - INTERVAL '4' SECOND) WITH (connector = 'http');
CREATE VIEW versioned AS SELECT currency, rate, valid_from FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY valid_from DESC) AS rn FROM rates) WHERE rn = 1;
CREATE MATERIALIZED VIEW latest AS SELECT DISTINCT ON (currency) currency AS c, rate * 2 AS double FROM rates ORDER BY currency, valid_from DESC;
CREATE MATERIALIZED VIEW v AS SELECT o.id, o.amount * r.rate AS total FROM orders AS o LEFT JOIN versioned FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.currency;
CREATE MATERIALIZED VIEW w AS SELECT o.id, o.at, r.double FROM orders AS o JOIN latest FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.c;
CREATE VIEW positive AS SELECT currency, rate FROM versioned WHERE rate > 0;
CREATE MATERIALIZED VIEW x AS SELECT o.id, r.rate FROM orders AS o JOIN positive FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.currency;
