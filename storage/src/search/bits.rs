//! A set of items of a segment: one bit for each.

use super::dictionary::wide;

/// A set of ordinals.
#[derive(Debug, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Room for so many, none of them in it.
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// How many are in it.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| wide(word.count_ones())).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn has(&self, ordinal: usize) -> bool {
        self.0[ordinal / 64] & (1 << (ordinal % 64)) != 0
    }

    pub(super) fn add(&mut self, ordinal: usize) {
        self.0[ordinal / 64] |= 1 << (ordinal % 64);
    }

    /// Those of so many that are not in it.
    pub(super) fn others(&self, len: usize) -> Self {
        let mut others: Vec<u64> = self.0.iter().map(|word| !word).collect();
        if let (Some(last), 1..) = (others.last_mut(), len % 64) {
            *last &= (1 << (len % 64)) - 1;
        }
        Self(others)
    }

    /// Takes out what is not in another set of as much room.
    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    /// Takes out those for which something does not hold.
    pub(super) fn retain(&mut self, holds: impl Fn(usize) -> bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if !holds(at * 64 + wide(bit)) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// Takes out those for whose value, given in their order, something does not hold.
    pub(super) fn keep_where<T>(&mut self, values: &[T], holds: impl Fn(&T) -> bool) {
        for (word, values) in self.0.iter_mut().zip(values.chunks(64)) {
            let bits = values.iter().enumerate().map(|(bit, value)| u64::from(holds(value)) << bit);
            *word &= bits.fold(0, |mask, bit| mask | bit);
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_ordinals() {
        let in_it = |bits: &Bits| (0..130).filter(|at| bits.has(*at)).collect::<Vec<_>>();
        let mut some = Bits::none(130);
        [0, 63, 64, 129, 64].iter().for_each(|at| some.add(*at));
        assert_eq!(in_it(&some), [0, 63, 64, 129]);
        let mut others = some.others(130);
        assert_eq!((in_it(&others).len(), others.count()), (126, 126));
        assert_eq!(Bits::none(64).others(64).count(), 64);
        others.keep(&some);
        assert_eq!(in_it(&others), []);
        let values: Vec<usize> = (0..130).collect();
        some.keep_where(&values, |value| *value > 63);
        assert_eq!(in_it(&some), [64, 129]);
        some.retain(|at| at != 64);
        assert_eq!((in_it(&some), some.count()), (vec![129], 1));
    }
}
