//! Where a crash is interesting: between two things of which one must not be without the other.

use crate::simulation::here;

macro_rules! points {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// A point in the code at which a simulation may let the process die. All of them stand here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point { $($(#[$about])* $name,)* }

        impl Point {
            /// All points.
            pub const ALL: &[Point] = &[$(Point::$name,)*];
        }
    };
}

points! {
    /// A job's checkpoints are this process's; what they hold is not read yet.
    Claimed,
    /// How the newest checkpoint goes on is known, and what sinks have still to publish; nothing runs yet.
    Restored,
    /// Rows of a source are in an epoch, which is not closed.
    RowsGiven,
    /// An epoch is closed on a worker: its changes can be read, and are in the outboxes.
    EpochClosed,
    /// A checkpoint is whole in memory; nothing of it is written.
    CheckpointTaken,
    /// Its file is durable; no manifest names it.
    FileWritten,
    /// Its manifest is durable; the writer does not know.
    ManifestWritten,
    /// The writer knows; nothing is released to the sinks.
    CheckpointDurable,
    /// The sinks may publish; the sources were not told.
    Released,
    /// The sources were told.
    SourcesTold,
    /// Files are folded into one, which no manifest names.
    Folded,
    /// A sink is taken over, and how far it was published is known; nothing of the outbox is dropped.
    TakenOver,
    /// Epochs are about to be published.
    Publishing,
    /// They are published; the outbox still has them.
    Published,
    /// A new partition was found; nobody reads it yet.
    PartitionFound,
}

/// The process may die here, in a simulation. Nothing otherwise.
pub fn crash_point(point: Point) {
    if let Some(here) = here() {
        here.simulation.reaches(here.thread, point);
    }
}
