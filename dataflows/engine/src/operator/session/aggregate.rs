//! `GROUP BY` a key and its sessions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{Int64Type, SchemaRef};
use highwater_plan::{Aggregate, Emit, OnError, timestamp_from_micros};

use super::map::{Before, Session, Sessions};
use super::rows::SessionRows;
use super::{LateRow, SessionSpec};
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::keys::Keys;
use crate::operator::accumulate::Accumulators;
use crate::operator::aggregate::give;
use crate::operator::epoch::EpochLogic;
use crate::operator::groups::{Failed, Results, equal_rows, state_batch};
use crate::{Delta, Diff, Time};

/// A row that is in no session.
const NOWHERE: u32 = u32::MAX;

/// Aggregates sessions: a group is a session, and its number in the accumulators is the session's slot.
pub(crate) struct SessionAggregate {
    spec: SessionSpec,
    /// There are aggregates.
    counts: bool,
    emit: Emit,
    schema: SchemaRef,
    kept: Kept,
    accumulators: Accumulators,
}

/// What is kept beside the aggregates.
enum Kept {
    /// Nothing: sessions only grow and are joined, and then so are their aggregates.
    States(SessionStates),
    Rows(SessionRows),
}

/// Sessions of which only the bounds are known.
pub(crate) struct SessionStates {
    sessions: Sessions,
    keys: Keys,
    /// What changed since the last checkpoint, if that is to be in the next one.
    dirty: Option<Dirty>,
}

/// Sessions that differ from what the last checkpoint has of them.
#[derive(Default)]
struct Dirty {
    /// Slots that were changed; some may have ended since.
    slots: BTreeSet<u32>,
    /// Keys and first times that sessions had.
    were: Vec<(Vec<ArrayRef>, Int64Array)>,
}

/// Results of sessions at one moment.
struct Moment {
    slots: Vec<u32>,
    bounds: Vec<(i64, i64)>,
    values: Vec<ArrayRef>,
}

impl SessionAggregate {
    /// No sessions yet. `append_only`: `input` never retracts.
    pub(crate) fn new(spec: SessionSpec, aggregate: &Aggregate, input: &SchemaRef, append_only: bool, schema: SchemaRef) -> Self {
        let make = |append_only| Accumulators::new(&aggregate.calls, input, append_only);
        let mut accumulators = make(append_only);
        let joinable = accumulators.partial_types().is_some();
        let kept = if append_only && joinable {
            Kept::States(SessionStates { sessions: Sessions::new(spec.assign.gap), keys: spec.keys(input), dirty: None })
        } else {
            // Joining sessions takes rows from one and adds them to the other.
            accumulators = make(false);
            Kept::Rows(SessionRows::new(&spec, input))
        };
        SessionAggregate { spec, counts: !aggregate.calls.is_empty(), emit: aggregate.emit, schema, kept, accumulators }
    }

    fn sessions(&self) -> &Sessions {
        match &self.kept {
            Kept::States(states) => &states.sessions,
            Kept::Rows(rows) => &rows.sessions,
        }
    }

    fn keep_failed(&self) -> bool {
        self.spec.refused.errors.policy == OnError::Null
    }

    /// Key and bound columns of sessions.
    fn group_columns(&self, slots: &[u32], bounds: &[(i64, i64)]) -> Vec<ArrayRef> {
        let (sessions, keys) = match &self.kept {
            Kept::States(states) => (&states.sessions, &states.keys),
            Kept::Rows(rows) => (&rows.sessions, &rows.keys),
        };
        let numbers: Vec<u32> = slots.iter().map(|slot| sessions.get(*slot).key).collect();
        let mut columns = keys.columns(&numbers);
        let width = columns.len();
        let starts = Int64Array::from_iter_values(bounds.iter().map(|(first, _)| *first));
        let ends = Int64Array::from_iter_values(bounds.iter().map(|(_, last)| self.spec.end(*last)));
        columns.push(timestamp_from_micros(starts, self.schema.field(width).data_type()));
        columns.push(timestamp_from_micros(ends, self.schema.field(width + 1).data_type()));
        columns
    }

    /// The results now of these sessions, as far as they can be represented.
    fn moment(&self, sessions: Vec<(u32, (i64, i64))>, diff: Diff, failed: &mut Vec<Failed>) -> Moment {
        let (slots, bounds): (Vec<u32>, Vec<(i64, i64)>) = sessions.into_iter().unzip();
        let outputs = self.accumulators.outputs(&slots);
        let mut broken: Vec<usize> = Vec::new();
        for (position, reason) in outputs.iter().flat_map(|output| &output.failed) {
            let keys = self.group_columns(&slots[*position..=*position], &bounds[*position..=*position]);
            failed.push(Failed { keys, diff, reason });
            broken.push(*position);
        }
        let values: Vec<ArrayRef> = outputs.into_iter().map(|output| output.values).collect();
        if broken.is_empty() || self.keep_failed() {
            return Moment { slots, bounds, values };
        }
        let whole: Vec<usize> = (0..slots.len()).filter(|position| !broken.contains(position)).collect();
        let positions = UInt32Array::from_iter_values(whole.iter().map(|position| *position as u32));
        let take = |values: &ArrayRef| compute::take(values, &positions, None).expect("positions are within the column");
        Moment {
            values: values.iter().map(take).collect(),
            slots: whole.iter().map(|position| slots[*position]).collect(),
            bounds: whole.iter().map(|position| bounds[*position]).collect(),
        }
    }

    /// What differs between two moments: retractions first.
    fn changes(&self, old: &Moment, new: &Moment, failed: Vec<Failed>) -> Results {
        let at: HashMap<u32, u32> = new.slots.iter().enumerate().map(|(place, slot)| (*slot, place as u32)).collect();
        let pairs: Vec<(u32, u32)> = (0..old.slots.len())
            .filter_map(|place| Some((place as u32, *at.get(&old.slots[place])?)))
            .filter(|(left, right)| old.bounds[*left as usize] == new.bounds[*right as usize])
            .collect();
        let (left, right): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        let equal = equal_rows(&old.values, &UInt32Array::from(left), &new.values, &UInt32Array::from(right));
        let (mut same_old, mut same_new) = (vec![false; old.slots.len()], vec![false; new.slots.len()]);
        for ((left, right), _) in pairs.iter().zip(equal.values()).filter(|(_, equal)| *equal) {
            (same_old[*left as usize], same_new[*right as usize]) = (true, true);
        }
        let differs = |same: &[bool]| -> Vec<usize> { (0..same.len()).filter(|place| !same[*place]).collect() };
        let (gone, come) = (differs(&same_old), differs(&same_new));
        let slots: Vec<u32> =
            gone.iter().map(|place| old.slots[*place]).chain(come.iter().map(|place| new.slots[*place])).collect();
        let bounds: Vec<(i64, i64)> =
            gone.iter().map(|place| old.bounds[*place]).chain(come.iter().map(|place| new.bounds[*place])).collect();
        let mut columns = self.group_columns(&slots, &bounds);
        let places: Vec<(usize, usize)> =
            gone.iter().map(|place| (0, *place)).chain(come.iter().map(|place| (1, *place))).collect();
        for (old, new) in old.values.iter().zip(&new.values) {
            columns.push(compute::interleave(&[old.as_ref(), new.as_ref()], &places).expect("two columns of one type"));
        }
        let diffs = std::iter::repeat_n(-1, gone.len()).chain(std::iter::repeat_n(1, come.len()));
        Results { rows: slots.len(), columns, diffs: Some(Int64Array::from_iter_values(diffs)), failed }
    }

    /// The results that were visible before the epoch, of sessions that it has changed.
    fn before(&self, failed: &mut Vec<Failed>) -> Moment {
        let visible = |before: &&Before| self.emit == Emit::Changes || before.given;
        let touched = self.sessions().touched().iter().filter(visible);
        self.moment(touched.filter_map(|before| Some((before.slot, before.bounds?))).collect(), -1, failed)
    }

    /// Rows that were put into sessions go into their states.
    fn update_states(&mut self, batches: Vec<(Delta, Vec<u32>)>, absorbed: &HashMap<u32, u32>) {
        for (delta, mut groups) in batches {
            if groups.contains(&NOWHERE) {
                let delta = delta.filter(&BooleanBuffer::collect_bool(groups.len(), |row| groups[row] != NOWHERE));
                groups.retain(|group| *group != NOWHERE);
                self.accumulators.update(&delta, &groups);
            } else {
                self.accumulators.update(&delta, &groups);
            }
        }
        // Sessions of this epoch that were absorbed at once never had a state.
        let had_state = self.sessions().touched().iter().filter(|before| before.bounds.is_some());
        let from: Vec<u32> = had_state.map(|before| before.slot).filter(|slot| absorbed.contains_key(slot)).collect();
        if from.is_empty() {
            return;
        }
        let to: Vec<u32> = from.iter().map(|slot| root(absorbed, *slot)).collect();
        let states = self.accumulators.partials(&from);
        self.accumulators.update_partials(&to, &states);
    }
}

/// Who has what an absorbed session had.
fn root(absorbed: &HashMap<u32, u32>, mut slot: u32) -> u32 {
    while let Some(next) = absorbed.get(&slot) {
        slot = *next;
    }
    slot
}

/// An epoch's batches with each row's session, sessions that are part of others now, and the keys met.
struct Placed {
    batches: Vec<(Delta, Vec<u32>)>,
    absorbed: HashMap<u32, u32>,
    keys: Vec<u32>,
}

impl SessionStates {
    /// Notes what the epoch has changed, before it ends.
    fn note_changed(&mut self) {
        let Some(dirty) = &mut self.dirty else { return };
        let touched = self.sessions.touched();
        if touched.is_empty() {
            return;
        }
        dirty.slots.extend(touched.iter().map(|before| before.slot));
        let were = touched.iter().filter_map(|before| Some((self.sessions.get(before.slot).key, before.bounds?.0)));
        let (keys, firsts): (Vec<u32>, Vec<i64>) = were.unzip();
        if !keys.is_empty() {
            dirty.were.push((self.keys.columns(&keys), Int64Array::from(firsts)));
        }
    }

    /// The sessions that changed since this was asked last: key columns, the times of the first and of the last row, about
    /// how many rows there are, and the aggregates' states; of those that are gone the key and the first time.
    fn take_changed(&mut self, accumulators: &Accumulators) -> Vec<Delta> {
        let Some(Dirty { slots, were }) = self.dirty.as_mut().map(std::mem::take) else { return Vec::new() };
        let slots: Vec<u32> = slots.into_iter().filter(|slot| self.sessions.is_live(*slot)).collect();
        let numbers: Vec<u32> = slots.iter().map(|slot| self.sessions.get(*slot).key).collect();
        let integers = |of: fn(&Session) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| of(self.sessions.get(*slot)))))
        };
        let mut columns = self.keys.columns(&numbers);
        columns.extend([integers(|one| one.first), integers(|one| one.last), integers(|one| one.rows)]);
        columns.extend(accumulators.partials(&slots));
        let present = state_batch(columns, slots.len());
        let mut changed = Vec::new();
        for (mut columns, firsts) in were {
            let rows = firsts.len();
            columns.push(Arc::new(firsts));
            let others = present.schema().fields()[columns.len()..].to_vec();
            columns.extend(others.iter().map(|field| new_null_array(field.data_type(), rows)));
            changed.push(Delta::with_diffs(state_batch(columns, rows), vec![-1; rows].into()));
        }
        if !slots.is_empty() {
            changed.push(Delta::insert(present));
        }
        changed
    }

    /// Takes back sessions.
    fn load(&mut self, delta: &Delta, accumulators: &mut Accumulators) {
        let columns = delta.rows.columns();
        let width = columns.len() - accumulators.partials(&[]).len() - 3;
        let mut keys = Vec::new();
        self.keys.intern(&columns[..width], delta.len(), &mut keys);
        self.sessions.reserve(self.keys.bound());
        let integers = |column: usize| columns[width + column].as_primitive::<Int64Type>().values();
        let (firsts, lasts, rows) = (integers(0), integers(1), integers(2));
        let insert = |(row, key): (usize, &u32)| self.sessions.insert(*key, firsts[row], lasts[row], rows[row]);
        let slots: Vec<u32> = keys.iter().enumerate().map(insert).collect();
        accumulators.resize(self.sessions.bound());
        accumulators.update_partials(&slots, &columns[width + 3..]);
    }

    /// Puts an epoch's rows into sessions.
    fn place(&mut self, epoch: Time, spec: &SessionSpec, deltas: Vec<Delta>, watermark: i64) -> Placed {
        let (mut entries, mut keys) = spec.entries(epoch, &deltas, &mut self.keys);
        self.sessions.reserve(self.keys.bound());
        entries.sort_unstable_by_key(|entry| (entry.key, entry.time));
        let mut groups: Vec<Vec<u32>> = deltas.iter().map(|delta| vec![NOWHERE; delta.len()]).collect();
        let mut late: Vec<Vec<LateRow>> = deltas.iter().map(|_| Vec::new()).collect();
        let mut absorbed = HashMap::new();
        let gap = spec.assign.gap;
        for run in entries.chunk_by(|a, b| a.key == b.key && b.time.saturating_sub(a.time) <= gap) {
            let (first, last) = (run[0].time, run[run.len() - 1].time);
            keys.push(run[0].key);
            let refuse = spec.is_closed(last, watermark);
            match self.sessions.add(run[0].key, (first, last), run.len() as i64, refuse) {
                Some(merged) => {
                    absorbed.extend(merged.absorbed.iter().map(|(other, ..)| (*other, merged.slot)));
                    run.iter().for_each(|entry| groups[entry.batch as usize][entry.row as usize] = merged.slot);
                }
                None => {
                    for entry in run {
                        let diff = deltas[entry.batch as usize].diff(entry.row as usize);
                        let row = LateRow { row: entry.row, diff, from: first, to: spec.end(last) };
                        late[entry.batch as usize].push(row);
                    }
                }
            }
        }
        for (delta, late) in deltas.iter().zip(&late) {
            spec.refused.late(epoch, delta, late, watermark);
        }
        if !absorbed.is_empty() {
            for group in groups.iter_mut().flatten().filter(|group| **group != NOWHERE) {
                *group = root(&absorbed, *group);
            }
        }
        Placed { batches: deltas.into_iter().zip(groups).collect(), absorbed, keys }
    }
}

impl EpochLogic for SessionAggregate {
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn log(&mut self) {
        match &mut self.kept {
            Kept::States(states) => states.dirty = Some(Dirty::default()),
            Kept::Rows(rows) => rows.log(),
        }
    }

    /// The rows of sessions, or where only those are kept, their states. Which results were given as final follows from the
    /// watermark.
    fn save(&mut self, saved: &mut Saved) {
        let partition = &self.spec.assign.partition;
        match &mut self.kept {
            Kept::States(states) => {
                let keys = partition.len() + 1;
                let changes = states.take_changed(&self.accumulators);
                saved.entries(0, keys, Spread::ByColumns((0..partition.len()).collect()), changes, None);
            }
            Kept::Rows(rows) => saved.rows(0, Spread::ByColumns(partition.clone()), rows.take_changed(), None),
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        match &mut self.kept {
            Kept::States(states) => tables[0].iter().for_each(|delta| states.load(delta, &mut self.accumulators)),
            Kept::Rows(_) => self.apply(epoch, tables, None, &mut Vec::new()),
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        let watermark = self.spec.watermark.current;
        let mut failed = Vec::new();
        let (old, keys) = match &mut self.kept {
            Kept::States(states) => {
                let placed = states.place(epoch, &self.spec, deltas, watermark);
                let bound = states.sessions.bound();
                self.accumulators.resize(bound);
                let old = self.before(&mut failed);
                self.update_states(placed.batches, &placed.absorbed);
                (old, placed.keys)
            }
            Kept::Rows(rows) => {
                let (changes, keys) = rows.apply(epoch, &self.spec, &deltas, watermark);
                let bound = rows.sessions.bound();
                self.accumulators.resize(bound);
                let delta = (!changes.is_empty() && self.counts).then(|| rows.delta(&changes));
                let old = self.before(&mut failed);
                if let Some(delta) = delta {
                    let groups: Vec<u32> = changes.iter().map(|change| change.slot).collect();
                    self.accumulators.update(&delta, &groups);
                }
                (old, keys)
            }
        };
        self.spec.watermark.advance(watermarks);
        let emit = self.emit;
        let sessions = match &mut self.kept {
            Kept::States(states) => &mut states.sessions,
            Kept::Rows(rows) => &mut rows.sessions,
        };
        let passed = self.spec.pass(sessions, emit);
        let visible: Vec<u32> = match emit {
            Emit::Final => passed.given,
            Emit::Changes => sessions.touched().iter().map(|before| before.slot).filter(|slot| sessions.is_live(*slot)).collect(),
        };
        let bounds = |slot: u32| (sessions.get(slot).first, sessions.get(slot).last);
        let visible = visible.into_iter().map(|slot| (slot, bounds(slot))).collect();
        let new = self.moment(visible, 1, &mut failed);
        let results = self.changes(&old, &new, failed);
        give(epoch, results, &self.schema, &self.spec.refused.errors, output);
        self.close(&passed.closed, keys);
    }

    fn wake_at(&self) -> Option<Time> {
        self.spec.watermark.due(self.sessions().first_due()?)
    }

    fn state(&self) -> (usize, usize) {
        let accumulators = self.accumulators.bytes();
        match &self.kept {
            Kept::States(states) => (states.sessions.len(), states.sessions.bytes() + states.keys.bytes() + accumulators),
            Kept::Rows(rows) => (rows.state().0, rows.state().1 + accumulators),
        }
    }
}

impl SessionAggregate {
    /// Forgets sessions that take no more rows, and all that ended in this epoch.
    fn close(&mut self, closed: &[u32], keys: Vec<u32>) {
        let free = match &mut self.kept {
            Kept::States(states) => {
                closed.iter().for_each(|slot| states.sessions.end(*slot));
                states.note_changed();
                let (free, keys) = states.sessions.end_epoch(keys);
                keys.into_iter().for_each(|key| states.keys.remove(key));
                free
            }
            Kept::Rows(rows) => {
                let mut changes = Vec::new();
                closed.iter().for_each(|slot| rows.close(*slot, &mut changes));
                let free = rows.end_epoch(keys);
                if !changes.is_empty() && self.counts {
                    // Values that an aggregate knows by their rows are forgotten with them.
                    let delta = rows.delta(&changes);
                    let groups: Vec<u32> = changes.iter().map(|change| change.slot).collect();
                    self.accumulators.update(&delta, &groups);
                }
                free
            }
        };
        free.iter().for_each(|slot| self.accumulators.clear(*slot));
    }
}
