CREATE SINK s WITH (connector = 'print');
