//! A world from a seed, from its first process to its audit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_store::testing::Disk;
use highwater_turns::{Point, Simulation, Ticket, elapsed, sleep, spawn};

use crate::audit;
use crate::baton::{Baton, Death};
use crate::broker::{BrokerFaults, Brokers};
use crate::disk::DiskFaults;
use crate::input::Input;
use crate::job::Kind;
use crate::process::{Ended, Process};
use crate::random::Random;
use crate::trace::Trace;

/// Turns after which a world has no end. One takes a thousand or two.
const TURNS_MAX: u64 = 150_000;

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is wrong, if something is.
    pub failure: Option<String>,
    /// Of the trace.
    pub hash: u64,
    /// How many turns there were.
    pub turns: u64,
    /// Simulated time.
    pub time: Duration,
    /// At which points processes died.
    pub crashed_at: Vec<Point>,
    /// The trace, if it was wanted.
    pub lines: Vec<String>,
}

/// What the seed decides once.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) kind: Kind,
    pub(crate) idle: bool,
    pub(crate) grows: bool,
    pub(crate) bounded: bool,
    pub(crate) interval: Duration,
    pub(crate) fold_files: usize,
    pub(crate) epoch_rows_max: usize,
    pub(crate) epochs_in_flight: usize,
    pub(crate) disk: DiskFaults,
    pub(crate) brokers: BrokerFaults,
    /// How many processes die or are replaced before the world becomes calm.
    pub(crate) lives: usize,
}

impl Fate {
    fn new(random: &mut Random) -> Self {
        let bounded = random.chance(500);
        let rate = |random: &mut Random, most: u64| if random.chance(500) { 0 } else { random.between(1, most) };
        Fate {
            kind: random.pick(&[
                Kind::Windows,
                Kind::Windows,
                Kind::Windows,
                Kind::Join,
                Kind::Join,
                Kind::Distinct,
                Kind::Distinct,
                Kind::All,
            ]),
            idle: random.chance(200),
            grows: !bounded && random.chance(300),
            bounded,
            interval: Duration::from_millis(random.pick(&[10, 100, 300, 1_000])),
            fold_files: random.pick(&[2, 2, 3, 8]),
            epoch_rows_max: random.pick(&[2, 8, 64, 1_000]),
            epochs_in_flight: random.between(1, 4) as usize,
            disk: DiskFaults {
                refused: rate(random, 80),
                answers_lost: rate(random, 20),
                slow: rate(random, 60),
                full: rate(random, 10),
            },
            brokers: BrokerFaults {
                refused: rate(random, 200),
                acks_lost: rate(random, 200),
                reads: rate(random, 50),
                stalls: rate(random, 100),
                away: rate(random, 5),
            },
            lives: random.pick(&[0, 1, 1, 1, 2, 2, 3]),
        }
    }

    /// When the next process dies.
    fn death(&self, random: &mut Random) -> Death {
        match random.below(10) {
            0..3 if self.grows => Death::At(Point::PartitionFound, 1),
            0..5 => Death::At(random.pick(Point::ALL), random.pick(&[1, 1, 2, 3, 8])),
            5..7 => Death::Disk(random.pick(&[2, 5, 10, 20, 40]) + random.below(8) as u32),
            7..9 => Death::Turn(random.pick(&[20, 100, 300, 800]) + random.below(200)),
            _ => Death::Never,
        }
    }
}

/// What the processes of a world share.
pub(crate) struct World {
    pub(crate) baton: Arc<Baton>,
    pub(crate) fate: Fate,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) disk: Disk,
    pub(crate) calm: Arc<AtomicBool>,
}

/// Runs a seed; its trace is kept if `kept`.
pub fn run(seed: u64, kept: bool) -> Run {
    let mut random = Random::new(seed);
    let fate = Fate::new(&mut random);
    let input = Input::new(&mut random, fate.grows, fate.kind.joins());
    let baton = Baton::new(random.split(), TURNS_MAX, Trace::new(kept));
    let grows = fate.grows.then_some(Duration::from_millis(40));
    let disk = Disk::new();
    let brokers = Brokers::new(Arc::clone(&baton), input, disk.clone(), (fate.bounded, grows), fate.brokers);
    let world = World { baton: Arc::clone(&baton), fate, brokers, disk, calm: Arc::default() };
    let simulation: Arc<dyn Simulation> = Arc::clone(&baton) as _;
    let thread = std::thread::Builder::new().name(format!("world {seed}"));
    let thread =
        thread.spawn(move || Ticket::first(simulation, 0).run(|| world.pass_by(random))).expect("a thread can be started");
    let outcome = baton.wait_over();
    let mut failure = outcome.failure;
    if failure.is_none() && thread.join().is_err() {
        failure = Some("the simulation itself panicked".into());
    }
    let (hash, turns, time, lines) = (outcome.hash, outcome.turns, outcome.now, outcome.lines);
    Run { failure, hash, turns, time, crashed_at: outcome.crashed_at, lines }
}

impl World {
    /// From the first process to the audit.
    fn pass_by(&self, mut random: Random) {
        self.baton.say(format_args!("{:?}", self.fate));
        let brokers = Arc::clone(&self.brokers);
        let producer = spawn("producer".into(), move || produce(&brokers)).expect("a thread can be started");
        // Processes that are thought dead and are not.
        let mut ghosts: Vec<Process> = Vec::new();
        for _ in 0..self.fate.lives {
            let workers = random.pick(&[1, 1, 1, 2, 2, 3]);
            let Some(process) = Process::start(self, workers, self.fate.death(&mut random)) else { continue };
            let patience = Duration::from_millis(random.pick(&[20, 80, 250, 800]));
            let (ghost, killed) = (random.chance(400), random.chance(500));
            let ended = process.watch(self, patience);
            if ended == Ended::OutOfPatience && ghost {
                self.baton.say(format_args!("life {} is thought dead", process.life()));
                ghosts.push(process);
                continue;
            }
            if ended == Ended::OutOfPatience && killed {
                self.baton.kill(process.life(), format_args!("from outside"));
            }
            process.end(self);
        }
        self.calm.store(true, Ordering::SeqCst);
        self.brokers.calm();
        self.baton.say(format_args!("from here on nothing goes wrong"));
        let workers = random.pick(&[1, 1, 2, 2, 3]);
        let mut tries = 0;
        let last = loop {
            tries += 1;
            if tries > 3 {
                return self.baton.fail("no process comes up although nothing goes wrong".into());
            }
            if let Some(process) = Process::start(self, workers, Death::Never) {
                break process;
            }
        };
        last.come_to_the_end(self);
        audit::results(self, &last);
        last.end(self);
        for ghost in ghosts {
            ghost.end(self);
        }
        let _ = producer.join();
    }
}

/// Entries come to the topics.
fn produce(brokers: &Brokers) {
    let mut times: Vec<u64> = brokers.input.topics.values().flatten().flat_map(|log| log.at_us.iter().copied()).collect();
    times.sort_unstable();
    times.dedup();
    // Some of them together, as if the network had held them back.
    for at in times.chunks(6).filter_map(<[u64]>::last) {
        let at = Duration::from_micros(*at);
        sleep(at.saturating_sub(elapsed()));
        brokers.wake();
    }
}
