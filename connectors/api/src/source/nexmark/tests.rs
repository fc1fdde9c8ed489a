//! Known answers, and the same stream however it is cut.
