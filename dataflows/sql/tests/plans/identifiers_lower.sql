SET sql.identifiers = 'lower';
CREATE SOURCE S (Id BIGINT, dateTime TIMESTAMP(3)) WITH (connector = 'file');
CREATE MATERIALIZED VIEW V AS SELECT ID, DateTime FROM s;
