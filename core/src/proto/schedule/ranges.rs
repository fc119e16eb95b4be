//! A set of whole numbers as disjoint ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of `u64` (groups of an artifact, heights of blocks) that is cheap when its members lie
/// next to each other.
///
/// Memory: one map entry for each run; runs that touch are one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ranges {
    /// Start to end; disjoint, not empty, not touching.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl Ranges {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            runs: BTreeMap::new(),
            len: 0,
        }
    }

    /// How many numbers are in the set.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether no number is in the set.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    /// How many runs there are.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Adds the numbers of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // Runs that overlap or touch are taken out, from the last one backwards, and joined.
        while let Some((first, last)) = self.last_run_from(end) {
            if last < start {
                break;
            }
            self.runs.remove(&first);
            self.len -= last - first;
            (start, end) = (start.min(first), end.max(last));
        }
        self.runs.insert(start, end);
        self.len += end - start;
    }

    /// Takes out the numbers of `range`.
    pub fn remove(&mut self, range: Range<u64>) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        while let Some((first, last)) = self.last_run_from(end - 1) {
            if last <= start {
                break;
            }
            self.runs.remove(&first);
            self.len -= last - first;
            for rest in [first..start, end..last] {
                if rest.start < rest.end {
                    self.len += rest.end - rest.start;
                    self.runs.insert(rest.start, rest.end);
                }
            }
        }
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.last_run_from(number)
            .is_some_and(|(_, end)| number < end)
    }

    /// The first number at or after `from` that is not in the set.
    pub fn first_missing(&self, from: u64) -> u64 {
        match self.last_run_from(from) {
            Some((_, end)) if from < end => end,
            _ => from,
        }
    }

    /// The first run of members at or after `from`; the run that `from` lies in starts there.
    pub fn next_run(&self, from: u64) -> Option<Range<u64>> {
        if let Some((_, end)) = self.last_run_from(from).filter(|(_, end)| from < *end) {
            return Some(from..end);
        }
        let (start, end) = self.runs.range(from..).next()?;
        Some(*start..*end)
    }

    /// The first run at or after `from` of numbers that are in both sets.
    pub fn next_common_run(&self, other: &Self, mut from: u64) -> Option<Range<u64>> {
        loop {
            let (mine, theirs) = (self.next_run(from)?, other.next_run(from)?);
            let start = mine.start.max(theirs.start);
            let end = mine.end.min(theirs.end);
            if start < end {
                return Some(start..end);
            }
            from = start;
        }
    }

    /// The numbers that are in both sets.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut common, mut from) = (Self::new(), 0);
        while let Some(run) = self.next_common_run(other, from) {
            from = run.end;
            common.insert(run);
        }
        common
    }

    /// The last run that starts at or before `number`.
    fn last_run_from(&self, number: u64) -> Option<(u64, u64)> {
        let (start, end) = self.runs.range(..=number).next_back()?;
        Some((*start, *end))
    }
}

impl From<Range<u64>> for Ranges {
    fn from(range: Range<u64>) -> Self {
        Self::from_iter([range])
    }
}

impl FromIterator<Range<u64>> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(u64, u64)]) -> Ranges {
        ranges.iter().map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn runs_that_touch_are_one() {
        let mut ranges = set(&[(0, 2), (4, 6), (2, 4)]);
        assert_eq!(ranges, set(&[(0, 6)]));
        ranges.remove(2..3);
        assert_eq!(ranges, set(&[(0, 2), (3, 6)]));
        ranges.insert(1..1);
        assert_eq!((ranges.len(), ranges.run_count()), (5, 2));
    }

    #[test]
    fn the_ends_of_the_numbers_are_safe() {
        let mut ranges = set(&[(0, u64::MAX)]);
        assert_eq!(ranges.len(), u64::MAX);
        assert!(!ranges.contains(u64::MAX));
        assert_eq!(ranges.first_missing(0), u64::MAX);
        assert_eq!(ranges.next_run(u64::MAX), None);
        ranges.remove(0..u64::MAX);
        assert_eq!(ranges, Ranges::new());
    }

    #[test]
    fn runs_are_found_from_a_position() {
        let ranges = set(&[(2, 4), (6, 9)]);
        for (from, run, missing) in [
            (0, Some(2..4), 0),
            (3, Some(3..4), 4),
            (4, Some(6..9), 4),
            (8, Some(8..9), 9),
            (9, None, 9),
        ] {
            assert_eq!(
                (ranges.next_run(from), ranges.first_missing(from)),
                (run, missing)
            );
        }
        let other = set(&[(0, 3), (8, 20)]);
        assert_eq!(ranges.next_common_run(&other, 3), Some(8..9));
        assert_eq!(ranges.next_common_run(&other, 9), None);
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set(
            steps in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 0..60),
            other in prop::collection::vec((0_u64..60, 0_u64..12), 0..8),
        ) {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for (is_insert, start, count) in steps {
                let numbers = start..start + count;
                if is_insert {
                    ranges.insert(numbers.clone());
                    model.extend(numbers);
                } else {
                    ranges.remove(numbers.clone());
                    model.retain(|it| !numbers.contains(it));
                }
                prop_assert_eq!(ranges.len(), model.len() as u64);
                prop_assert!(ranges.iter().all(|run| run.start < run.end));
                let mut ends = ranges.iter().flat_map(|run| [run.start, run.end]);
                prop_assert!(ends.by_ref().collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
            }
            prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), model.clone());
            for number in 0..80 {
                prop_assert_eq!(ranges.contains(number), model.contains(&number));
                let missing = (number..).find(|it| !model.contains(it));
                prop_assert_eq!(Some(ranges.first_missing(number)), missing);
            }
            let other: Ranges = other.into_iter().map(|(start, n)| start..start + n).collect();
            let both = model.into_iter().filter(|it| other.contains(*it)).collect::<Vec<_>>();
            prop_assert_eq!(ranges.intersect(&other).iter().flatten().collect::<Vec<_>>(), both);
        }
    }
}
