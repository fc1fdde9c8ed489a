//! Seeds that found something once: what it was, and that it does not come back.
//!
//! A seed means something else as soon as the world draws one number more or less; what it found is then kept by a test nearer to
//! the mistake, which is named here too.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]
