//! Which heights nobody has been asked for.

/// The maximal runs of heights in `from..=to` that none of the `taken` ranges (both ends
/// included) covers, lowest first.
pub fn gaps(from: u64, to: u64, taken: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut taken: Vec<(u64, u64)> = taken.into_iter().collect();
    taken.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = from;
    for (first, last) in taken {
        if to < first {
            break;
        }
        if next < first {
            gaps.push((next, first - 1));
        }
        next = next.max(last.saturating_add(1));
    }
    if next <= to {
        gaps.push((next, to));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_what_is_left_out() {
        for (taken, expected) in [
            (vec![], vec![(1, 9)]),
            (vec![(1, 9)], vec![]),
            (vec![(3, 4), (6, 6)], vec![(1, 2), (5, 5), (7, 9)]),
            (vec![(0, 2), (2, 5), (8, 20)], vec![(6, 7)]),
            (vec![(10, 12)], vec![(1, 9)]),
        ] {
            assert_eq!(gaps(1, 9, taken.clone()), expected, "{taken:?}");
        }
        assert_eq!(gaps(5, 4, []), vec![]);
    }

    proptest! {
        #[test]
        fn gaps_and_taken_ranges_cover_everything_without_overlap(
            taken in proptest::collection::vec((0_u64..60, 0_u64..10), 0..8),
        ) {
            let taken: Vec<_> = taken.into_iter().map(|(at, len)| (at, at + len)).collect();
            let gaps = gaps(10, 50, taken.clone());
            let within = |ranges: &[(u64, u64)], it: u64| {
                ranges.iter().filter(|(from, to)| (*from..=*to).contains(&it)).count()
            };
            for height in 10..=50 {
                let is_taken = within(&taken, height) > 0;
                prop_assert_eq!(within(&gaps, height), usize::from(!is_taken));
            }
            for pair in gaps.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
        }
    }
}
