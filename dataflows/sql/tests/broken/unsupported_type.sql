CREATE SOURCE s (
  a BIGNT
) WITH (connector = 'file');
