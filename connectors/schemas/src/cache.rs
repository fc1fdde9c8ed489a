//! Schemas by id for those who must not wait: what is known is given at once, the rest is asked for by a thread.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::registry::{Registry, RegistryError, Schema};

/// Called when an answer has come.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// How often a schema that there is not is looked for again before that is believed: a registry of several may be behind.
const UNKNOWN_TRIES: u32 = 3;
/// Between two of these.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(150);
/// How long it is believed.
const UNKNOWN_KEPT: Duration = Duration::from_secs(60);
/// How many ids are remembered before those that mean nothing are forgotten.
const STATES_MAX: usize = 10_000;
/// How long a registry that gave no answer is left alone.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The schemas of a registry.
pub struct Schemas {
    registry: Arc<Registry>,
    states: Arc<Mutex<HashMap<u32, State>>>,
    /// To the thread that asks; it ends when this is dropped.
    ask: OnceLock<Mutex<Sender<u32>>>,
}

/// What is known of an id.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The schema.
    Known(Arc<Schema>),
    /// The registry has none of this id: what it said.
    Unknown(String),
    /// It is asked for; the waker is called.
    Coming,
    /// It is asked for again and again: what went wrong last. The waker is called.
    Failed(String),
}

enum State {
    Known(Arc<Schema>),
    Unknown(String, Instant),
    Asked(Vec<Waker>, Option<String>),
    Failed(String, Instant),
}

impl Schemas {
    /// Of this registry; nothing is asked yet.
    pub fn new(registry: Registry) -> Schemas {
        Schemas { registry: Arc::new(registry), states: Arc::default(), ask: OnceLock::new() }
    }

    /// The registry, for those who may wait.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The schema of an id, or why there is none; `None` if that is not known.
    pub fn known(&self, id: u32) -> Option<Result<Arc<Schema>, String>> {
        match lock(&self.states).get(&id) {
            Some(State::Known(schema)) => Some(Ok(Arc::clone(schema))),
            Some(State::Unknown(why, _)) => Some(Err(why.clone())),
            Some(State::Asked(..) | State::Failed(..)) | None => None,
        }
    }

    /// What is known of an id. If that is nothing yet, it is asked for, and `waker` is called when that has changed.
    pub fn get(&self, id: u32, waker: &Waker) -> Answer {
        let mut states = lock(&self.states);
        let failed = match states.get_mut(&id) {
            Some(State::Known(schema)) => return Answer::Known(Arc::clone(schema)),
            Some(State::Unknown(why, since)) if since.elapsed() < UNKNOWN_KEPT => return Answer::Unknown(why.clone()),
            Some(State::Asked(wakers, failed)) => {
                if !wakers.iter().any(|known| Arc::ptr_eq(known, waker)) {
                    wakers.push(Arc::clone(waker));
                }
                return failed.clone().map_or(Answer::Coming, Answer::Failed);
            }
            Some(State::Failed(why, since)) if since.elapsed() < FAILURE_PAUSE => return Answer::Failed(why.clone()),
            Some(State::Failed(why, _)) => Some(why.clone()),
            Some(State::Unknown(..)) | None => None,
        };
        if states.len() >= STATES_MAX {
            states.retain(|_, state| !matches!(state, State::Unknown(..)));
        }
        states.insert(id, State::Asked(vec![Arc::clone(waker)], failed.clone()));
        drop(states);
        self.send(id);
        failed.map_or(Answer::Coming, Answer::Failed)
    }

    fn send(&self, id: u32) {
        let sender = self.ask.get_or_init(|| {
            let (sender, receiver) = channel();
            let (registry, states) = (Arc::clone(&self.registry), Arc::clone(&self.states));
            let asking = move || ask(&registry, &states, &receiver);
            let spawned = std::thread::Builder::new().name("schema-registry".to_owned()).spawn(asking);
            if let Err(error) = spawned {
                tracing::error!(%error, "the thread that asks the schema registry cannot be started");
            }
            Mutex::new(sender)
        });
        // Nobody hears it if there is no thread.
        if lock(sender).send(id).is_err() {
            let why = "the thread that asks the schema registry cannot be started".to_owned();
            lock(&self.states).insert(id, State::Failed(why, Instant::now()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(registry: &Registry, states: &Mutex<HashMap<u32, State>>, receiver: &Receiver<u32>) {
    while let Ok(id) = receiver.recv() {
        let mut answer = registry.schema(id);
        for _ in 1..UNKNOWN_TRIES {
            if !matches!(answer, Err(RegistryError::Unknown(_))) {
                break;
            }
            std::thread::sleep(UNKNOWN_PAUSE);
            answer = registry.schema(id);
        }
        let state = match answer {
            Ok(schema) => State::Known(Arc::new(schema)),
            Err(RegistryError::Unknown(why)) => State::Unknown(why, Instant::now()),
            Err(error) => State::Failed(error.to_string(), Instant::now()),
        };
        let before = lock(states).insert(id, state);
        if let Some(State::Asked(wakers, _)) = before {
            wakers.iter().for_each(|waker| waker());
        }
    }
}
