//! Different words, sorted and numbered, and rows of their numbers.

use std::{collections::BTreeMap, ops::Range};

/// Numbers for words in the order in which they are met.
#[derive(Default)]
pub(super) struct Numbering(BTreeMap<Box<str>, u32>);

impl Numbering {
    pub(super) fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.0.get(word) {
            return *number;
        }
        let number = narrow(self.0.len());
        self.0.insert(word.into(), number);
        number
    }

    /// The words in their own order, and the number that each has there.
    pub(super) fn sorted(self) -> (Dictionary, Vec<u32>) {
        let (mut words, mut sorted) = (Dictionary::default(), vec![0; self.0.len()]);
        for (word, number) in self.0 {
            sorted[wide(number)] = words.push(&word);
        }
        (words, sorted)
    }
}

/// Sorted words, in one piece of text.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    text: String,
    ends: Vec<u32>,
}

impl Dictionary {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn word(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).map_or(0, |before| wide(self.ends[before]));
        &self.text[begin..wide(self.ends[number])]
    }

    fn push(&mut self, word: &str) -> u32 {
        self.text.push_str(word);
        self.ends.push(narrow(self.text.len()));
        narrow(self.ends.len() - 1)
    }

    /// The first word for which something, which holds for all after it, holds.
    fn first(&self, holds: impl Fn(&str) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if holds(self.word(middle)) { high = middle } else { low = middle + 1 }
        }
        narrow(low)
    }

    /// The words that begin with this one.
    pub(super) fn prefix(&self, prefix: &str) -> Range<u32> {
        let begin = self.first(|word| word >= prefix);
        begin..self.first(|word| word >= prefix && !word.starts_with(prefix))
    }

    /// The number of this word.
    pub(super) fn find(&self, word: &str) -> Option<u32> {
        let number = self.first(|other| other >= word);
        (wide(number) < self.len() && self.word(wide(number)) == word).then_some(number)
    }

    /// The words of both that are used, and where those of each went.
    pub(super) fn merge(both: [&Self; 2], used: &[Vec<bool>; 2]) -> (Self, [Vec<u32>; 2]) {
        let mut merged = Self::default();
        let mut maps = [vec![0; both[0].len()], vec![0; both[1].len()]];
        let next = |which: usize, from: usize| (from..both[which].len()).find(|n| used[which][*n]);
        let mut heads = [next(0, 0), next(1, 0)];
        loop {
            let words = [0, 1].map(|which| heads[which].map(|n| both[which].word(n)));
            let Some(word) = words.into_iter().flatten().min() else { break };
            let number = merged.push(word);
            for which in [0, 1] {
                if let (Some(n), true) = (heads[which], words[which] == Some(word)) {
                    maps[which][n] = number;
                    heads[which] = next(which, n + 1);
                }
            }
        }
        merged.text.shrink_to_fit();
        merged.ends.shrink_to_fit();
        (merged, maps)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// Rows of numbers, in one piece.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) values: Vec<u32>,
    ends: Vec<u32>,
}

impl Rows {
    pub(super) fn end_row(&mut self) {
        self.ends.push(narrow(self.values.len()));
    }

    fn begin(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| wide(self.ends[before]))
    }

    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.values[self.begin(row)..wide(self.ends[row])]
    }

    pub(super) fn rows(&self, rows: &Range<u32>) -> &[u32] {
        &self.values[self.begin(wide(rows.start))..self.begin(wide(rows.end))]
    }

    /// The same rows with other names for the values, sorted and without repetitions.
    pub(super) fn mapped(&self, map: &[u32]) -> Self {
        let (mut mapped, mut row) = (Self::default(), Vec::new());
        for number in 0..self.ends.len() {
            row.clear();
            row.extend(self.row(number).iter().map(|value| map[wide(*value)]));
            row.sort_unstable();
            row.dedup();
            mapped.values.extend_from_slice(&row);
            mapped.end_row();
        }
        mapped
    }

    /// For each of so many values the rows that it is in, ascending.
    pub(super) fn inverted(&self, values: usize) -> Self {
        let mut ends = vec![0_u32; values];
        for value in &self.values {
            ends[wide(*value)] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            // First where each row begins; filling it moves that to where it ends.
            total += std::mem::replace(end, total);
        }
        let mut inverted = Self { values: vec![0; self.values.len()], ends };
        for row in 0..self.ends.len() {
            for value in self.row(row) {
                let place = &mut inverted.ends[wide(*value)];
                inverted.values[wide(*place)] = narrow(row);
                *place += 1;
            }
        }
        inverted
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.values.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        (self.values.capacity() + self.ends.capacity()) * size_of::<u32>()
    }
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("the items and words of a catalog in memory are fewer than 2^32")
}

pub(super) fn wide(number: u32) -> usize {
    usize::try_from(number).expect("an address has at least 32 bits")
}
