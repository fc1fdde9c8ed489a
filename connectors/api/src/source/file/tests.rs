//! Files that are read to their end, followed, rotated, truncated and resumed.
