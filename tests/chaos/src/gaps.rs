//! How long nothing was confirmed.

use crate::history::Moment;

/// The longest time between two successive confirmed writes around a window, in milliseconds.
///
/// The write before the window and the one after it count: a gap that begins with the fault is measured
/// whole, and one that outlasts the window too. `confirmed` is sorted.
pub fn longest_ms(confirmed: &[Moment], from: Moment, until: Moment) -> f64 {
    let first = confirmed.partition_point(|moment| *moment < from).saturating_sub(1);
    let last = confirmed.partition_point(|moment| *moment <= until);
    let around = &confirmed[first..confirmed.len().min(last + 1)];
    let between = around.windows(2).map(|pair| pair[1].millis_since(pair[0])).fold(0.0, f64::max);
    if last < confirmed.len() {
        return between;
    }
    // Nothing came after the window: its end is the least that can be said.
    between.max(until.millis_since(around.last().copied().unwrap_or(from)))
}

/// The middle value; 0 if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(millis: &[u64]) -> Vec<Moment> {
        millis.iter().map(|millis| Moment(millis * 1_000_000)).collect()
    }

    fn longest(confirmed: &[u64], from: u64, until: u64) -> f64 {
        let ends = moments(&[from, until]);
        longest_ms(&moments(confirmed), ends[0], ends[1])
    }

    #[test]
    fn gap_is_measured_from_the_last_write_before_to_the_first_after() {
        assert_eq!(longest(&[0, 90, 100, 700, 710, 720], 105, 720), 600.0);
        assert_eq!(longest(&[0, 100, 900], 150, 500), 800.0);
        assert_eq!(longest(&[0, 50, 1000, 1010], 1005, 1010), 10.0);
    }

    #[test]
    fn gap_without_an_end_lasts_at_least_until_the_end_of_the_window() {
        assert_eq!(longest(&[0, 100], 150, 500), 400.0);
        assert_eq!(longest(&[], 150, 500), 350.0);
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
