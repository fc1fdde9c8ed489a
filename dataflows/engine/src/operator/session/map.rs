//! Which sessions there are: per key an ordered map, and which of them the watermark reaches next.

use std::collections::BTreeMap;

/// One session. Its number ("slot") stays the same while it grows.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) key: u32,
    /// Time of its first row.
    pub(super) first: i64,
    /// Time of its last row.
    pub(super) last: i64,
    /// About how many rows it has: which of two is cheaper to move.
    pub(super) rows: i64,
    /// Its result was given as final.
    pub(super) given: bool,
    live: bool,
    touched: bool,
    /// When it is looked at next, as [`Sessions::due`] has it.
    due: Option<i64>,
}

/// What a session was before the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) slot: u32,
    /// Its first and last row's time; `None` for a session that the epoch has made.
    pub(super) bounds: Option<(i64, i64)>,
    /// Whether its result was given as final.
    pub(super) given: bool,
}

/// What became of a run of new rows.
pub(super) struct Merged {
    /// The session that has them now.
    pub(super) slot: u32,
    /// Sessions that are part of it now, with their bounds.
    pub(super) absorbed: Vec<(u32, i64, i64)>,
}

/// All sessions that take rows.
pub(super) struct Sessions {
    gap: i64,
    /// Per key the sessions by their first row's time.
    by_key: Vec<BTreeMap<i64, u32>>,
    slots: Vec<Session>,
    free: Vec<u32>,
    /// Slots that became free in this epoch.
    ended: Vec<u32>,
    due: BTreeMap<i64, Vec<u32>>,
    touched: Vec<Before>,
    live: usize,
}

impl Sessions {
    pub(super) fn new(gap: i64) -> Self {
        Sessions {
            gap,
            by_key: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            due: BTreeMap::new(),
            touched: Vec::new(),
            live: 0,
        }
    }

    /// Makes room for keys below `bound`.
    pub(super) fn reserve(&mut self, bound: usize) {
        if self.by_key.len() < bound {
            self.by_key.resize_with(bound, BTreeMap::new);
        }
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// One more than the largest slot.
    pub(super) fn bound(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Session>() + self.by_key.capacity() * size_of::<BTreeMap<i64, u32>>() + self.live * 40
    }

    pub(super) fn get(&self, slot: u32) -> &Session {
        &self.slots[slot as usize]
    }

    pub(super) fn is_live(&self, slot: u32) -> bool {
        self.slots[slot as usize].live
    }

    /// The session of a key that a time falls in.
    pub(super) fn find(&self, key: u32, time: i64) -> Option<u32> {
        let (_, slot) = self.by_key[key as usize].range(..=time).next_back()?;
        (self.get(*slot).last >= time).then_some(*slot)
    }

    /// The sessions of a key that rows from `first` to `last` touch, latest first.
    fn near(&self, key: u32, first: i64, last: i64) -> Vec<u32> {
        let before = self.by_key[key as usize].range(..=last.saturating_add(self.gap)).rev();
        before.map(|(_, slot)| *slot).take_while(|slot| self.get(*slot).last.saturating_add(self.gap) >= first).collect()
    }

    /// Puts a run of new rows into a session; `None` if it would be alone and `refuse`.
    pub(super) fn add(&mut self, key: u32, (first, last): (i64, i64), rows: i64, refuse: bool) -> Option<Merged> {
        let near = self.near(key, first, last);
        let Some(slot) = near.iter().copied().max_by_key(|slot| self.get(*slot).rows) else {
            if refuse {
                return None;
            }
            let slot = self.insert(key, first, last, rows);
            return Some(Merged { slot, absorbed: Vec::new() });
        };
        self.touch(slot);
        let (mut from, mut to, mut all) = (first.min(self.get(slot).first), last.max(self.get(slot).last), rows);
        let mut absorbed = Vec::new();
        for other in near.into_iter().filter(|other| *other != slot) {
            let (first, last) = (self.get(other).first, self.get(other).last);
            (from, to, all) = (from.min(first), to.max(last), all + self.get(other).rows);
            self.end(other);
            absorbed.push((other, first, last));
        }
        self.set_bounds(slot, from, to);
        self.slots[slot as usize].rows += all;
        Some(Merged { slot, absorbed })
    }

    /// Changes a session's bounds.
    pub(super) fn set_bounds(&mut self, slot: u32, first: i64, last: i64) {
        self.touch(slot);
        let session = &mut self.slots[slot as usize];
        let (key, old) = (session.key as usize, session.first);
        (session.first, session.last) = (first, last);
        if old != first {
            self.by_key[key].remove(&old);
            self.by_key[key].insert(first, slot);
        }
    }

    /// Counts rows of a session.
    pub(super) fn count(&mut self, slot: u32, rows: i64) {
        self.touch(slot);
        self.slots[slot as usize].rows += rows;
    }

    /// A new session of a key.
    pub(super) fn insert(&mut self, key: u32, first: i64, last: i64, rows: i64) -> u32 {
        let session = Session { key, first, last, rows, given: false, live: true, touched: true, due: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = session;
                slot
            }
            None => {
                self.slots.push(session);
                self.slots.len() as u32 - 1
            }
        };
        self.by_key[key as usize].insert(first, slot);
        self.touched.push(Before { slot, bounds: None, given: false });
        self.live += 1;
        slot
    }

    /// Forgets a session. Its slot is used again in the next epoch.
    pub(super) fn end(&mut self, slot: u32) {
        self.touch(slot);
        let session = &mut self.slots[slot as usize];
        session.live = false;
        self.by_key[session.key as usize].remove(&session.first);
        self.ended.push(slot);
        self.live -= 1;
    }

    fn touch(&mut self, slot: u32) {
        let session = &mut self.slots[slot as usize];
        if !std::mem::replace(&mut session.touched, true) {
            self.touched.push(Before { slot, bounds: Some((session.first, session.last)), given: session.given });
            session.given = false;
        }
    }

    /// The sessions that this epoch has changed so far, as they were before, in the order they were first changed.
    pub(super) fn touched(&self) -> &[Before] {
        &self.touched
    }

    /// Has a session looked at when the watermark reaches `when`.
    pub(super) fn schedule(&mut self, slot: u32, when: i64) {
        let session = &mut self.slots[slot as usize];
        if session.due.is_none_or(|due| when < due) {
            session.due = Some(when);
            self.due.entry(when).or_default().push(slot);
        }
    }

    /// The sessions that are to be looked at as of this watermark.
    pub(super) fn take_due(&mut self, watermark: i64) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= watermark) {
            let (when, due) = entry.remove_entry();
            for slot in due {
                let session = &mut self.slots[slot as usize];
                if session.due == Some(when) {
                    session.due = None;
                    if session.live {
                        slots.push(slot);
                    }
                }
            }
        }
        slots
    }

    /// When the first session is to be looked at.
    pub(super) fn first_due(&self) -> Option<i64> {
        self.due.first_key_value().map(|(when, _)| *when)
    }

    /// Marks a session's result as given.
    pub(super) fn give(&mut self, slot: u32) {
        self.slots[slot as usize].given = true;
    }

    /// Ends the epoch: gives the slots that are free from now on, and the keys that have no session left among these.
    pub(super) fn end_epoch(&mut self, mut keys: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
        for before in self.touched.drain(..) {
            self.slots[before.slot as usize].touched = false;
        }
        let ended = std::mem::take(&mut self.ended);
        for slot in &ended {
            keys.push(self.slots[*slot as usize].key);
            self.slots[*slot as usize].touched = false;
        }
        self.free.extend(&ended);
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.by_key[*key as usize].is_empty());
        (ended, keys)
    }
}
