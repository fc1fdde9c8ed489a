//! The encoded changes of a view's last epochs, once, for all its subscribers.
//!
//! A subscriber is a [`Position`] and nothing else, so a thousand of them that do not read cost no more than one. The ring
//! is bounded in bytes; whoever is behind its floor has fallen out.

use std::collections::VecDeque;

use highwater_plan::Epoch;
use warp::hyper::body::Bytes;

/// Encoded epochs.
#[derive(Debug)]
pub(crate) struct Ring {
    epochs: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Every change after this epoch, up to `through`, is in the ring.
    floor: Epoch,
    through: Epoch,
    /// Positions before this one cannot be continued: the changes in between are lost.
    broken: Epoch,
}

#[derive(Debug)]
struct Entry {
    epoch: Epoch,
    /// Large epochs are several events; only the last one has an id.
    parts: Vec<Bytes>,
    bytes: usize,
}

/// What a subscriber has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Everything up to this epoch.
    pub(crate) after: Epoch,
    /// And so many parts of the epoch that follows.
    parts: usize,
}

/// What is next for a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event.
    Event(Bytes),
    /// Nothing yet.
    CaughtUp,
    /// The event was here and is gone.
    Fallen,
    /// The event never was here: the hub itself came too late for it.
    Broken,
}

impl Position {
    /// Behind all of `epoch`.
    pub(crate) fn after(epoch: Epoch) -> Self {
        Position { after: epoch, parts: 0 }
    }
}

impl Ring {
    /// An empty ring that goes on after `epoch`.
    pub(crate) fn new(epoch: Epoch, bytes_max: usize) -> Self {
        Ring { epochs: VecDeque::new(), bytes: 0, bytes_max, floor: epoch, through: epoch, broken: 0 }
    }

    /// Everything up to this epoch has been in the ring.
    pub(crate) fn through(&self) -> Epoch {
        self.through
    }

    /// Every change after this epoch is in the ring.
    pub(crate) fn floor(&self) -> Epoch {
        self.floor
    }

    /// Whether a position can be continued from here.
    pub(crate) fn reaches(&self, epoch: Epoch) -> bool {
        epoch >= self.floor
    }

    /// Adds an epoch, and forgets the oldest ones that are too much. The newest is kept however large it is.
    pub(crate) fn push(&mut self, epoch: Epoch, parts: Vec<Bytes>) {
        debug_assert!(epoch > self.through && !parts.is_empty(), "epochs come in order, and only those with changes");
        let bytes = parts.iter().map(Bytes::len).sum();
        self.bytes += bytes;
        self.through = epoch;
        self.epochs.push_back(Entry { epoch, parts, bytes });
        while self.bytes > self.bytes_max && self.epochs.len() > 1 {
            let oldest = self.epochs.pop_front().expect("there is more than one");
            self.bytes -= oldest.bytes;
            self.floor = oldest.epoch;
        }
    }

    /// Nothing changed up to `epoch`.
    pub(crate) fn advance(&mut self, epoch: Epoch) {
        self.through = self.through.max(epoch);
    }

    /// The changes up to `epoch` are lost: whoever is before it needs the view anew.
    pub(crate) fn break_at(&mut self, epoch: Epoch) {
        self.epochs.clear();
        self.bytes = 0;
        self.floor = epoch;
        self.through = epoch;
        self.broken = epoch;
    }

    /// Gives what follows `position`, and moves it there.
    pub(crate) fn next(&self, position: &mut Position) -> Next {
        if position.after < self.broken {
            return Next::Broken;
        }
        if position.after < self.floor {
            return Next::Fallen;
        }
        let index = self.epochs.partition_point(|entry| entry.epoch <= position.after);
        let Some(entry) = self.epochs.get(index) else {
            position.after = position.after.max(self.through);
            return Next::CaughtUp;
        };
        let event = entry.parts[position.parts].clone();
        position.parts += 1;
        if position.parts == entry.parts.len() {
            *position = Position::after(entry.epoch);
        }
        Next::Event(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn positions_read_every_part_of_every_epoch() {
        let mut ring = Ring::new(10, 1_000);
        ring.push(11, vec![event("a1"), event("a2")]);
        ring.push(13, vec![event("b")]);
        ring.advance(15);
        let mut position = Position::after(10);
        let mut texts = Vec::new();
        while let Next::Event(bytes) = ring.next(&mut position) {
            texts.push(bytes);
        }
        assert_eq!(texts, [event("a1"), event("a2"), event("b")]);
        assert_eq!(position, Position::after(15));
        assert_eq!(ring.next(&mut Position::after(12)), Next::Event(event("b")));
        assert_eq!(ring.next(&mut Position::after(20)), Next::CaughtUp);
    }

    #[test]
    fn who_is_behind_the_floor_has_fallen() {
        let mut ring = Ring::new(10, 4);
        let mut slow = Position::after(10);
        ring.push(11, vec![event("aa"), event("aa")]);
        assert_eq!(ring.next(&mut slow), Next::Event(event("aa")));
        ring.push(12, vec![event("bb")]);
        // It stood in the middle of an epoch that is gone: it continues from the epoch before.
        assert_eq!(ring.next(&mut slow), Next::Fallen);
        assert_eq!(slow.after, 10);
        assert_eq!(ring.next(&mut Position::after(11)), Next::Event(event("bb")));
    }

    #[test]
    fn one_epoch_is_kept_however_large() {
        let mut ring = Ring::new(0, 1);
        ring.push(1, vec![event("large")]);
        assert_eq!(ring.next(&mut Position::after(0)), Next::Event(event("large")));
    }

    #[test]
    fn a_broken_ring_sends_everybody_back() {
        let mut ring = Ring::new(10, 100);
        ring.push(11, vec![event("a")]);
        ring.break_at(20);
        assert_eq!(ring.next(&mut Position::after(11)), Next::Broken);
        assert_eq!(ring.next(&mut Position::after(20)), Next::CaughtUp);
    }
}
