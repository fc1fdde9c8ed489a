CREATE SINK s (a BIGINT) WITH (connector = 'print');
INSERT INTO s VALUES (1);
