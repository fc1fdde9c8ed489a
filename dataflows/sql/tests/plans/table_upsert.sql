CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT, category BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT seller, id AS auction FROM auction WHERE category = 10;
CREATE MATERIALIZED VIEW per_category AS SELECT category, count(*) AS n FROM auction GROUP BY category;
