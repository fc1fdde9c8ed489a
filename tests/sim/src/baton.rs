//! Who runs: one thread at a time, the next one chosen by the seed, and what time it is.
//!
//! Threads are the real ones of the runtime, timely's workers among them. Each waits on a condition variable of its own until the
//! baton is its own; it keeps it until it waits, passes or ends. Time goes on a little with each turn, and jumps to the first
//! deadline when nobody has anything to do. If there is none either, the world stands still: that is a failure.
//!
//! A process that is killed does not vanish: nothing that it does from then on reaches the disk or the brokers ([`Baton::is_dead`]),
//! and its threads are ended in an orderly way, in which they must not hang either. To whoever looks from outside that is the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_turns::{Place, Point, Simulation};

use crate::random::Random;
use crate::trace::Trace;

/// The wall clock at the beginning: some time in 2023, in milliseconds.
pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

/// What the other clock shows at the beginning.
pub(crate) const BEGINNING: Duration = Duration::from_secs(1);

/// Steps that an idle worker makes before it parks, counted from the last sign of life of any worker of its process.
const QUIET_STEPS: u32 = 2;

/// Real time without a turn after which a thread is taken to go round in circles.
const STANDSTILL: Duration = Duration::from_secs(30);

/// When a process is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Not before it is asked to end.
    Never,
    /// As soon as so many turns have passed since it began.
    Turn(u64),
    /// When this point is reached for the nth time.
    At(Point, u32),
    /// Before, within or after the nth operation of its disk.
    Disk(u32),
}

/// One life of the process.
struct Life {
    death: Death,
    begun: u64,
    /// What its wall clock shows less what the other does: each process may be on another machine.
    wall: Duration,
    dead: bool,
    reached: BTreeMap<Point, u32>,
}

struct Thread {
    name: String,
    life: usize,
    weight: u64,
    ended: bool,
    waits: Option<(Place, Option<Duration>)>,
    /// Was woken when it did not wait.
    token: bool,
    /// Steps without a sign of life, of a worker.
    quiet: u32,
    worker: bool,
    turn: Arc<Condvar>,
}

struct State {
    threads: Vec<Thread>,
    lives: Vec<Life>,
    /// Whose turn it is; nobody's once it is over.
    holder: Option<usize>,
    now: Duration,
    turns: u64,
    turns_max: u64,
    tick_us_max: u64,
    random: Random,
    trace: Trace,
    failure: Option<String>,
    crashed_at: Vec<Point>,
}

/// The scheduler of one world.
pub(crate) struct Baton {
    state: Mutex<State>,
    over: Condvar,
}

/// How a world came to its end.
pub(crate) struct Outcome {
    pub(crate) failure: Option<String>,
    pub(crate) hash: u64,
    pub(crate) turns: u64,
    pub(crate) now: Duration,
    pub(crate) lines: Vec<String>,
    pub(crate) crashed_at: Vec<Point>,
}

impl Baton {
    /// A world with one thread, number 0, in life 0: the world outside of any process.
    pub(crate) fn new(mut random: Random, turns_max: u64, trace: Trace) -> Arc<Self> {
        let tick_us_max = random.pick(&[50, 500, 500, 4_000]);
        let state = State {
            threads: Vec::new(),
            lives: vec![Life::new(Death::Never, 0, WALL_MS)],
            holder: Some(0),
            now: BEGINNING,
            turns: 0,
            turns_max,
            tick_us_max,
            random,
            trace,
            failure: None,
            crashed_at: Vec::new(),
        };
        let baton = Arc::new(Baton { state: Mutex::new(state), over: Condvar::new() });
        baton.lock().add("world".into(), 0);
        baton
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another life of the process; threads that thread 0 starts from here on belong to it.
    pub(crate) fn begin_life(&self, death: Death) -> usize {
        let mut state = self.lock();
        let begun = state.turns;
        // Without drawing: what else a seed decides stays as it is.
        let mut random = state.random.clone();
        let wrong_by = if random.chance(500) { 2_000 } else { random.below(4_000) };
        state.lives.push(Life::new(death, begun, WALL_MS - 2_000 + wrong_by));
        let life = state.lives.len() - 1;
        state.threads[0].life = life;
        state.say(0, format_args!("a process begins: {death:?}, its clock is wrong by {} ms", wrong_by as i64 - 2_000));
        life
    }

    /// Kills a process: nothing that it does counts any more.
    pub(crate) fn kill(&self, life: usize, why: fmt::Arguments<'_>) {
        self.lock().kill(life, why);
    }

    /// Whether a process was killed.
    pub(crate) fn is_dead(&self, life: usize) -> bool {
        self.lock().lives[life].dead
    }

    /// Whether no process was started after this one.
    pub(crate) fn is_newest(&self, life: usize) -> bool {
        life + 1 == self.lock().lives.len()
    }

    /// Whether the process dies of this operation of its disk.
    pub(crate) fn dies_of_disk(&self, life: usize) -> bool {
        let mut state = self.lock();
        match &mut state.lives[life].death {
            Death::Disk(0) => true,
            Death::Disk(left) => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    /// Draws a number.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.lock().random)
    }

    /// Adds a line to the trace.
    pub(crate) fn say(&self, what: fmt::Arguments<'_>) {
        let mut state = self.lock();
        let holder = state.holder.unwrap_or(0);
        state.say(holder, what);
    }

    /// Something is wrong with what is simulated: the world ends.
    pub(crate) fn fail(&self, why: String) {
        let mut state = self.lock();
        if state.failure.is_none() {
            let holder = state.holder.unwrap_or(0);
            state.say(holder, format_args!("FAILED {why}"));
            state.failure = Some(why);
        }
    }

    /// Waits until thread 0 has ended or something is wrong.
    pub(crate) fn wait_over(&self) -> Outcome {
        let mut state = self.lock();
        let mut seen = state.turns;
        while let Some(holder) = state.holder {
            let (woken, timeout) = self.over.wait_timeout(state, STANDSTILL).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && std::mem::replace(&mut seen, state.turns) == state.turns {
                let name = state.threads[holder].name.clone();
                state.say(holder, format_args!("FAILED it does not hand over"));
                state.failure = Some(format!("thread {name} runs on and on, or waits where the simulation does not see it"));
                break;
            }
        }
        Outcome {
            failure: state.failure.clone(),
            hash: state.trace.hash(),
            turns: state.turns,
            now: state.now,
            lines: state.trace.lines(),
            crashed_at: state.crashed_at.clone(),
        }
    }

    /// Gives the baton to whom the seed chooses, and comes back when this thread has it again.
    fn hand_over(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let next = state.next();
        state.holder = next;
        let Some(next) = next else {
            self.over.notify_all();
            return self.park(state, me);
        };
        if next != me {
            state.threads[next].turn.notify_one();
            self.park(state, me);
        }
    }

    fn park(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let turn = Arc::clone(&state.threads[me].turn);
        // After a failure that is for ever: the world is left as it is.
        while state.holder != Some(me) {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Life {
    fn new(death: Death, begun: u64, wall_ms: u64) -> Self {
        Life { death, begun, wall: Duration::from_millis(wall_ms), dead: false, reached: BTreeMap::new() }
    }
}

impl State {
    fn add(&mut self, name: String, life: usize) -> usize {
        let weight = self.random.pick(&[1, 3, 3, 3, 6]);
        let worker = name.starts_with("worker");
        let turn = Arc::new(Condvar::new());
        self.threads.push(Thread { name, life, weight, ended: false, waits: None, token: false, quiet: 0, worker, turn });
        self.threads.len() - 1
    }

    fn say(&mut self, thread: usize, what: fmt::Arguments<'_>) {
        let Thread { name, life, .. } = &self.threads[thread];
        self.trace.line(self.turns, self.now, *life, name, what);
    }

    fn kill(&mut self, life: usize, why: fmt::Arguments<'_>) {
        if life > 0 && !std::mem::replace(&mut self.lives[life].dead, true) {
            let holder = self.holder.unwrap_or(0);
            self.say(holder, format_args!("KILLED life {life}: {why}"));
            // Whoever looks after the processes notices.
            self.threads[0].waits = None;
        }
    }

    /// Who is next; `None` if it is over.
    fn next(&mut self) -> Option<usize> {
        if self.failure.is_some() || self.threads[0].ended {
            return None;
        }
        self.turns += 1;
        if self.turns > self.turns_max {
            self.failure = Some(format!("there is no end after {} turns", self.turns));
            return None;
        }
        self.now += Duration::from_micros(self.random.below(self.tick_us_max));
        let overdue = |life: &Life| matches!(life.death, Death::Turn(turns) if life.begun + turns <= self.turns) && !life.dead;
        if let Some(life) = self.lives.iter().position(overdue) {
            self.kill(life, format_args!("its time has come"));
        }
        let waits = |thread: &Thread| thread.waits.and_then(|(_, until)| until);
        loop {
            let ready =
                |thread: &Thread| !thread.ended && (thread.waits.is_none() || waits(thread).is_some_and(|at| at <= self.now));
            let sum: u64 = self.threads.iter().filter(|thread| ready(thread)).map(|thread| thread.weight).sum();
            if sum > 0 {
                let mut drawn = self.random.below(sum);
                let now = self.now;
                let chosen = self.threads.iter().position(|thread| {
                    let ready = !thread.ended && (thread.waits.is_none() || waits(thread).is_some_and(|at| at <= now));
                    let weight = if ready { thread.weight } else { 0 };
                    let chosen = drawn < weight;
                    drawn = drawn.saturating_sub(weight);
                    chosen
                });
                let chosen = chosen.expect("what was drawn is less than the sum");
                self.threads[chosen].waits = None;
                return Some(chosen);
            }
            let Some(first) = self.threads.iter().filter(|thread| !thread.ended).filter_map(waits).min() else {
                let who: Vec<String> =
                    self.threads.iter().filter(|thread| !thread.ended).map(|thread| thread.name.clone()).collect();
                self.failure = Some(format!("all wait for each other: {}", who.join(", ")));
                return None;
            };
            self.now = first;
        }
    }

    /// Workers of a process may have something to do for each other.
    fn stir(&mut self, life: usize) {
        for thread in self.threads.iter_mut().filter(|thread| thread.worker && thread.life == life) {
            thread.quiet = 0;
            if matches!(thread.waits, Some((Place::Thread(_), _))) {
                thread.waits = None;
            }
        }
    }
}

impl Simulation for Baton {
    fn starts(&self, parent: u64, name: &str) -> u64 {
        let mut state = self.lock();
        let life = state.threads[parent as usize].life;
        let thread = state.add(name.to_owned(), life);
        state.say(parent as usize, format_args!("starts thread {thread}, {name}"));
        thread as u64
    }

    fn begins(&self, thread: u64) {
        let state = self.lock();
        self.park(state, thread as usize);
    }

    fn ends(&self, thread: u64) {
        let mut state = self.lock();
        let me = thread as usize;
        state.threads[me].ended = true;
        state.say(me, format_args!("ends"));
        for other in &mut state.threads {
            if other.waits.is_some_and(|(place, _)| place == Place::EndOf(thread)) {
                other.waits = None;
            }
        }
        let next = state.next();
        state.holder = next;
        match next {
            None => self.over.notify_all(),
            Some(next) => state.threads[next].turn.notify_one(),
        }
    }

    fn has_ended(&self, thread: u64) -> bool {
        self.lock().threads[thread as usize].ended
    }

    fn passes(&self, thread: u64) {
        let state = self.lock();
        self.hand_over(state, thread as usize);
    }

    fn waits(&self, thread: u64, place: Place, longest: Option<Duration>) {
        let mut state = self.lock();
        let me = thread as usize;
        let until = longest.map(|longest| state.now + longest);
        match place {
            Place::Thread(_) if std::mem::take(&mut state.threads[me].token) => {}
            _ => state.threads[me].waits = Some((place, until)),
        }
        let what = match place {
            Place::Bell(_) => "a bell",
            Place::Thread(_) => "being woken",
            Place::EndOf(_) => "a thread's end",
            Place::Time => "time",
        };
        state.say(me, format_args!("waits for {what} {:?}", longest.map(|longest| longest.as_micros())));
        self.hand_over(state, me);
    }

    fn wakes(&self, thread: u64, place: Place) {
        let mut state = self.lock();
        for other in &mut state.threads {
            if other.waits.is_some_and(|(waits, _)| waits == place) {
                other.waits = None;
            }
        }
        if let Place::Thread(woken) = place {
            let woken = &mut state.threads[woken as usize];
            (woken.token, woken.quiet) = (true, 0);
        }
        let me = &state.threads[thread as usize];
        if me.worker {
            let life = me.life;
            state.stir(life);
        }
    }

    fn stepped(&self, thread: u64, idle: Option<Duration>) {
        let mut state = self.lock();
        let me = thread as usize;
        let life = state.threads[me].life;
        match idle {
            None => {
                state.stir(life);
                state.say(me, format_args!("steps"));
            }
            Some(idle) => {
                state.threads[me].quiet += 1;
                let woken = std::mem::take(&mut state.threads[me].token);
                if state.threads[me].quiet > QUIET_STEPS && !woken {
                    let until = state.now + idle;
                    state.threads[me].waits = Some((Place::Thread(thread), Some(until)));
                    state.say(me, format_args!("parks for {}", idle.as_micros()));
                } else {
                    state.say(me, format_args!("steps, idle"));
                }
            }
        }
        self.hand_over(state, me);
    }

    fn elapsed(&self) -> Duration {
        self.lock().now
    }

    fn wall(&self, thread: u64) -> Duration {
        let state = self.lock();
        state.now + state.lives[state.threads[thread as usize].life].wall
    }

    fn reaches(&self, thread: u64, point: Point) {
        let mut state = self.lock();
        let me = thread as usize;
        let life = state.threads[me].life;
        if life == 0 || state.lives[life].dead {
            return;
        }
        state.say(me, format_args!("reaches {point:?}"));
        let reached = state.lives[life].reached.entry(point).or_default();
        *reached += 1;
        let reached = *reached;
        if state.lives[life].death == Death::At(point, reached) {
            state.crashed_at.push(point);
            state.kill(life, format_args!("at {point:?}"));
        }
        // What others do between the two sides of the point is what it is about.
        if state.random.chance(500) {
            self.hand_over(state, me);
        }
    }
}
