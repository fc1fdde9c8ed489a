CREATE SOURCE s (id BIGINT, at TIMESTAMP(3) METADATA FROM 'timestamp') WITH (connector = 'kafka', topic = 't');
CREATE TABLE out (id BIGINT, p INT METADATA VIRTUAL, at TIMESTAMP(3) METADATA FROM 'timestamp') WITH (connector = 'kafka', topic = 'o');
INSERT INTO out SELECT id, at FROM s;
