CREATE SOURCE s (a VARCHAR, WATERMARK FOR a AS a - 1) WITH (connector = 'file');
