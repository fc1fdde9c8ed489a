-- What TPC-H does not ask: outer joins, NULLs beside NOT IN, EXISTS in SELECT lists, set operations with copies.
-- Sizes and priorities of a few hundred small rows have NULLs: see `generate.rs`.

CREATE MATERIALIZED VIEW left_residual AS
SELECT a.id AS a, b.id AS b FROM note AS a LEFT JOIN note AS b ON a.tag = b.ref AND a.size < b.size;
CREATE MATERIALIZED VIEW right_where AS
SELECT a.id AS a, b.id AS b FROM note AS a RIGHT JOIN note AS b ON a.tag = b.ref WHERE a.id IS NULL OR a.size > 3;
CREATE MATERIALIZED VIEW full_one_sided AS
SELECT a.id AS a, b.id AS b FROM note AS a FULL JOIN note AS b ON a.ref = b.id AND a.size > 5 AND b.tag <> 2;
CREATE MATERIALIZED VIEW full_null_safe AS
SELECT a.id AS a, b.id AS b FROM (SELECT * FROM note WHERE size < 4) AS a
FULL JOIN (SELECT * FROM note WHERE size > 6) AS b ON a.tag IS NOT DISTINCT FROM b.ref;
CREATE MATERIALIZED VIEW inequality AS
SELECT a.id AS a, count(b.id) AS larger FROM note AS a LEFT JOIN note AS b ON a.size < b.size AND b.id < 40 WHERE a.id < 60 GROUP BY a.id;
CREATE MATERIALIZED VIEW not_in AS
SELECT id FROM note WHERE tag NOT IN (SELECT ref FROM note WHERE ref IS NOT NULL AND size > 5);
CREATE MATERIALIZED VIEW not_in_with_null AS
SELECT id FROM note WHERE tag NOT IN (SELECT ref FROM note WHERE size > 5);
CREATE MATERIALIZED VIEW not_in_empty AS
SELECT id FROM note WHERE tag NOT IN (SELECT ref FROM note WHERE size > 500);
CREATE MATERIALIZED VIEW not_in_correlated AS
SELECT id FROM note AS a WHERE tag NOT IN (SELECT ref FROM note AS b WHERE b.id = a.ref);
CREATE MATERIALIZED VIEW not_in_or AS
SELECT id FROM note AS a WHERE size = 3 OR NOT (tag IN (SELECT ref FROM note AS b WHERE b.size = a.size));
CREATE MATERIALIZED VIEW in_value AS
SELECT id, tag IN (SELECT ref FROM note WHERE size = 2) AS known, tag NOT IN (SELECT ref FROM note WHERE size = 1) AS unknown FROM note;
CREATE MATERIALIZED VIEW exists_value AS
SELECT id, CASE WHEN EXISTS (SELECT 1 FROM note AS b WHERE b.ref = a.tag AND b.size > a.size) THEN 1 ELSE 0 END AS larger FROM note AS a;
CREATE MATERIALIZED VIEW exists_counted AS
SELECT size, count(*) FILTER (WHERE NOT EXISTS (SELECT 1 FROM note AS b WHERE b.ref = a.id)) AS alone FROM note AS a GROUP BY size;
CREATE MATERIALIZED VIEW scalar_count AS
SELECT id, (SELECT count(*) FROM note AS b WHERE b.ref = a.id) AS readers, (SELECT max(size) FROM note) AS largest FROM note AS a;
CREATE MATERIALIZED VIEW scalar_only AS
SELECT id, (SELECT b.size FROM note AS b WHERE b.id = a.ref) AS size_of_ref FROM note AS a;
CREATE MATERIALIZED VIEW intersect_all AS SELECT tag FROM note WHERE size > 3 INTERSECT ALL SELECT ref FROM note;
CREATE MATERIALIZED VIEW intersect_once AS SELECT tag FROM note INTERSECT SELECT ref FROM note;
CREATE MATERIALIZED VIEW except_all AS SELECT tag FROM note EXCEPT ALL SELECT ref FROM note WHERE size > 3;
CREATE MATERIALIZED VIEW except_once AS SELECT tag FROM note EXCEPT SELECT ref FROM note WHERE size > 7;
CREATE MATERIALIZED VIEW unions AS SELECT tag, size FROM note UNION SELECT ref, size FROM note EXCEPT ALL SELECT 1, 1;
