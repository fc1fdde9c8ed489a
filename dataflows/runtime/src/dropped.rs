//! A job of the engine that is not to outlive something.

use highwater_engine::Engine;

/// Drops a job with itself.
pub(crate) struct Dropped<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) id: u64,
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        // Workers that are gone have dropped it.
        let _ = self.engine.drop_job(self.id);
    }
}
