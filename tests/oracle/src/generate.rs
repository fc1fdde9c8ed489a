//! Random jobs as SQL text, and random scripts for them, from a seed.
//!
//! The text goes through the planner like a person's. A generated query is meant to be one that can be maintained; now and
//! then it is not, and then the case is skipped and counted.

mod expr;
mod names;
mod query;
mod random;
mod rows;
mod sources;

use highwater_plan::Job;

use self::query::Queries;
pub use self::random::Random;
use self::sources::Declared;
use crate::script::Script;

/// A job's text, one entry per statement.
#[derive(Debug, Clone)]
pub struct Text {
    /// The statements, without semicolons.
    pub statements: Vec<String>,
}

impl Text {
    /// The whole text.
    pub fn sql(&self) -> String {
        self.statements.iter().map(|statement| format!("{statement};\n")).collect()
    }
}

/// A random job and what is needed to make scripts for it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Its text.
    pub text: Text,
    sources: Vec<Declared>,
}

/// All jobs with seeds before this one may have many views, of the others some.
const OFTEN_LARGE: u64 = 350;

/// One job of so many has OVER in windows whose rows change.
const EVERY_CHANGING_WINDOWS: u64 = 40;

/// The job of a seed. Planning takes most of the time of a job among thousands: most of those have few views.
pub fn generate(seed: u64) -> Generated {
    let views_max = if seed < OFTEN_LARGE || seed.is_multiple_of(5) { 4 } else { 2 };
    let mut random = Random::new(seed);
    let sources = sources::declare(&mut random);
    let mut statements = settings(&mut random);
    statements.extend(sources.iter().map(Declared::statement));
    let changing_windows = seed > OFTEN_LARGE && seed % EVERY_CHANGING_WINDOWS == 1;
    statements.extend(Queries::new(&mut random, &sources).statements(views_max, changing_windows));
    Generated { text: Text { statements }, sources }
}

impl Generated {
    /// A script for the job; the same for every number of workers.
    pub fn script(&self, seed: u64, job: &Job) -> Script {
        rows::script(&mut Random::new(seed ^ 0x5c1e_27ab), &self.sources, job, [(4, 12), (12, 30)])
    }

    /// A script of few steps, for one job among thousands.
    pub fn short_script(&self, seed: u64, job: &Job) -> Script {
        rows::script(&mut Random::new(seed ^ 0x5c1e_27ab), &self.sources, job, [(3, 6), (6, 11)])
    }
}

fn settings(random: &mut Random) -> Vec<String> {
    let mut statements = Vec::new();
    if random.chance(30) {
        let lateness = random.pick(&["1 s", "2 seconds", "500 ms", "5 s"]);
        statements.push(format!("SET allowed_lateness = '{lateness}'"));
    }
    if random.chance(20) {
        statements.push(format!("SET epochs_in_flight = {}", random.range(1, 4)));
    }
    if random.chance(15) {
        statements.push(format!("SET epoch_rows_max = {}", random.range(1, 6)));
    }
    if random.chance(10) {
        statements.push("SET on_error = null".into());
    }
    // So long that nothing expires: what only keeps account of it must change no result.
    if random.chance(15) {
        statements.push("SET state_ttl = '1 day'".into());
    }
    statements
}
