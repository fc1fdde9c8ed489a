//! Which groups the next checkpoint is to have.

use arrow::array::ArrayRef;

use crate::keys::Keys;

/// Groups that differ from what the last checkpoint has of them.
#[derive(Default)]
pub(super) struct Dirty {
    /// All groups of this number and above do: they came after it.
    pub(super) fresh: u32,
    /// Of those below, which do.
    pub(super) marked: Vec<bool>,
    /// Those that were marked; some may be gone since.
    pub(super) numbers: Vec<u32>,
    /// The keys of groups that are gone.
    pub(super) gone: Vec<Vec<ArrayRef>>,
}

impl Dirty {
    /// These groups go.
    pub(super) fn forget(&mut self, gone: &[u32], keys: &Keys) {
        for number in gone {
            if let Some(marked) = self.marked.get_mut(*number as usize) {
                *marked = false;
            }
        }
        self.gone.push(keys.columns(gone));
    }

    /// None of these groups does.
    pub(super) fn none_of(keys: &Keys) -> Self {
        Dirty { fresh: keys.bound() as u32, ..Dirty::default() }
    }

    /// These groups change.
    pub(super) fn mark(&mut self, numbers: &[u32]) {
        if self.fresh == 0 {
            return;
        }
        self.marked.resize(self.fresh as usize, false);
        for number in numbers.iter().filter(|number| **number < self.fresh) {
            if !std::mem::replace(&mut self.marked[*number as usize], true) {
                self.numbers.push(*number);
            }
        }
    }
}
