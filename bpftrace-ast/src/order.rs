//! Sorting by numbers. The standard library's sort is compiled anew, to some kilobytes, for each type that is sorted;
//! this has one for all.

/// Puts values into the order of their numbers. Those of one number stay as they are.
pub fn sort_by_number<T>(values: &mut Vec<T>, number: impl Fn(&T) -> u64) {
    let mut order: Vec<(u64, usize)> = values.iter().map(number).zip(0..).collect();
    order.sort_unstable();
    let mut taken: Vec<Option<T>> = values.drain(..).map(Some).collect();
    values.extend(order.iter().filter_map(|&(_, at)| taken[at].take()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_keep_their_order() {
        let mut values = vec![(2, 'a'), (1, 'b'), (2, 'c'), (0, 'd'), (1, 'e')];
        sort_by_number(&mut values, |&(number, _)| number);
        let letters: String = values.iter().map(|&(_, letter)| letter).collect();
        assert_eq!(letters, "dbeac");
    }
}
