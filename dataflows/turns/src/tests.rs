//! Outside a simulation everything is what the machine does; inside one every call arrives there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::*;

#[test]
fn the_machine_does_it_otherwise() {
    let (bell, rung) = (Arc::new(Bell::default()), Arc::new(Mutex::new(false)));
    let (theirs, flag) = (Arc::clone(&bell), Arc::clone(&rung));
    let began = elapsed();
    let thread = spawn("ringer".into(), move || {
        *flag.lock().unwrap() = true;
        theirs.ring();
        crash_point(Point::Restored);
        pass();
    });
    let mut guard = rung.lock().unwrap();
    while !*guard {
        guard = bell.wait(&rung, guard, Some(Duration::from_secs(180)));
    }
    drop(guard);
    assert!(thread.unwrap().join().is_ok());
    assert!(!is_simulated() && elapsed() >= began && wall() > Duration::from_secs(1_500_000_000));
}

/// Lets everybody run, and writes down what it is told.
#[derive(Default)]
struct Told {
    threads: AtomicU64,
    ended: AtomicBool,
    calls: Mutex<Vec<String>>,
}

impl Told {
    fn say(&self, what: String) {
        self.calls.lock().unwrap().push(what);
    }
}

impl Simulation for Told {
    fn starts(&self, parent: u64, name: &str) -> u64 {
        self.say(format!("{parent} starts {name}"));
        self.threads.fetch_add(1, Ordering::SeqCst) + 1
    }
    fn begins(&self, thread: u64) {
        self.say(format!("{thread} begins"));
    }
    fn ends(&self, thread: u64) {
        self.say(format!("{thread} ends"));
        self.ended.store(thread == 1, Ordering::SeqCst);
    }
    fn has_ended(&self, _thread: u64) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
    fn passes(&self, thread: u64) {
        self.say(format!("{thread} passes"));
    }
    fn waits(&self, _thread: u64, _place: Place, _longest: Option<Duration>) {
        std::thread::yield_now();
    }
    fn wakes(&self, thread: u64, _place: Place) {
        self.say(format!("{thread} wakes"));
    }
    fn stepped(&self, thread: u64, idle: Option<Duration>) {
        self.say(format!("{thread} stepped {idle:?}"));
    }
    fn elapsed(&self) -> Duration {
        Duration::from_secs(7)
    }
    fn wall(&self, _thread: u64) -> Duration {
        Duration::from_secs(8)
    }
    fn reaches(&self, thread: u64, point: Point) {
        self.say(format!("{thread} at {point:?}"));
    }
}

#[test]
fn a_simulation_is_told_everything_and_tells_the_time() {
    let told = Arc::new(Told::default());
    Ticket::first(Arc::clone(&told) as Arc<dyn Simulation>, 0).run(|| {
        assert_eq!((elapsed(), wall()), (Duration::from_secs(7), Duration::from_secs(8)));
        let child = spawn("child".into(), || {
            Bell::default().ring();
            stepped(None);
            crash_point(Point::Folded);
        });
        child.unwrap().join().unwrap();
        pass();
    });
    assert!(!is_simulated());
    let calls = told.calls.lock().unwrap().join(", ");
    assert_eq!(calls, "0 begins, 0 starts child, 1 begins, 1 wakes, 1 stepped None, 1 at Folded, 1 ends, 0 passes, 0 ends");
}
