//! Deterministic simulation: the real runtime, engine and store, in a world that one number makes.
//!
//! From a seed follow the input, the order in which threads run, the time, what the disk and the brokers refuse, and when the
//! process dies: at a named point of the code ([`Point`]), in the middle of a write, or at any moment. It is started again, on
//! another number of workers, sometimes while its predecessor is only thought dead. In the end the world is calm, the job comes
//! to its end, and everything that was published and can be read is compared with what the whole input gives.
//!
//! ```text
//!            seed ──► Baton: who runs, what time it is, when a process dies
//!                       │
//!   Brokers ──► sim source ──► Runtime, Engine, Store (the real ones) ──► sim sink ──► Brokers: checked at every commit
//!                                        │
//!                                   Disk (in memory): torn, full, slow, answers lost
//! ```
//!
//! The same seed gives the same trace, which is compared by its hash: `cargo test -p highwater-sim`. To look at one seed:
//!
//! ```sh
//! HIGHWATER_SIM_SEED=4711 cargo test -p highwater-sim one_seed -- --nocapture
//! ```
//!
//! prints a line per turn: turn, simulated time, which life of the process, thread, what it did. `HIGHWATER_SIM_SEEDS` says how many
//! seeds are run, `HIGHWATER_SIM_FROM` from which on; in CI they are the first 10,000. A seed that has found something stays, with a name, in `tests/found.rs`.
//!
//! What is not simulated: librdkafka and its protocol (`tests/it/kafka.rs` kills a real process over a real broker), the file
//! system below `object_store` (`dataflows/store/tests/store`), HTTP.

mod audit;
mod baton;
mod broker;
mod connector;
mod disk;
mod input;
mod job;
mod process;
mod random;
mod trace;
mod world;

pub use highwater_turns::Point;
pub use world::{Run, run};
