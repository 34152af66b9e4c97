//! Which macros a token came out of: none of them is replaced in it again.

use std::collections::HashMap;
use std::rc::Rc;

/// A set of names of macros; equal sets have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hidden(u32);

impl Hidden {
    /// The token was written as it is.
    pub(super) const NONE: Self = Self(0);
}

/// Sets no larger than this are made: what nests deeper is not replaced any more.
const MAX_NAMES: usize = 200;

/// All sets.
#[derive(Debug)]
pub(super) struct HideSets {
    /// Sorted.
    sets: Vec<Rc<[Rc<str>]>>,
    numbers: HashMap<Rc<[Rc<str>]>, Hidden>,
    with: HashMap<(Hidden, Rc<str>), Hidden>,
    common: HashMap<(Hidden, Hidden), Hidden>,
}

impl Default for HideSets {
    fn default() -> Self {
        let empty: Rc<[Rc<str>]> = Rc::from([]);
        Self {
            numbers: HashMap::from([(Rc::clone(&empty), Hidden::NONE)]),
            sets: vec![empty],
            with: HashMap::new(),
            common: HashMap::new(),
        }
    }
}

impl HideSets {
    fn set(&self, set: Hidden) -> &Rc<[Rc<str>]> {
        &self.sets[set.0 as usize]
    }

    /// Whether a set has a name, or is so large that it counts as having all.
    pub(super) fn has(&self, set: Hidden, name: &str) -> bool {
        if set == Hidden::NONE {
            return false;
        }
        let names = self.set(set);
        names.len() >= MAX_NAMES || names.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    fn number(&mut self, names: Vec<Rc<str>>) -> Hidden {
        let names: Rc<[Rc<str>]> = names.into();
        if let Some(&known) = self.numbers.get(&names) {
            return known;
        }
        let number = Hidden(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
        self.sets.push(Rc::clone(&names));
        self.numbers.insert(names, number);
        number
    }

    /// A set with one more name.
    pub(super) fn with(&mut self, set: Hidden, name: &Rc<str>) -> Hidden {
        let key = (set, Rc::clone(name));
        if let Some(&known) = self.with.get(&key) {
            return known;
        }
        let mut names = self.set(set).to_vec();
        if let Err(at) = names.binary_search(name) {
            names.insert(at, Rc::clone(name));
        }
        let number = self.number(names);
        self.with.insert(key, number);
        number
    }

    /// What two sets have in common.
    pub(super) fn common(&mut self, a: Hidden, b: Hidden) -> Hidden {
        if a == b {
            return a;
        }
        if a == Hidden::NONE || b == Hidden::NONE {
            return Hidden::NONE;
        }
        if let Some(&known) = self.common.get(&(a, b)) {
            return known;
        }
        let other = Rc::clone(self.set(b));
        let names = self
            .set(a)
            .iter()
            .filter(|name| other.binary_search(name).is_ok())
            .cloned()
            .collect();
        let number = self.number(names);
        self.common.insert((a, b), number);
        number
    }

    /// What two sets have together.
    pub(super) fn union(&mut self, a: Hidden, b: Hidden) -> Hidden {
        if a == b || b == Hidden::NONE {
            return a;
        }
        if a == Hidden::NONE {
            return b;
        }
        let names = Rc::clone(self.set(b));
        names.iter().fold(a, |set, name| self.with(set, name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Hidden, HideSets};

    #[test]
    fn equal_sets_have_equal_numbers() {
        let mut sets = HideSets::default();
        let a = sets.with(Hidden::NONE, &"a".into());
        let ab = sets.with(a, &"b".into());
        let b = sets.with(Hidden::NONE, &"b".into());
        assert_eq!(sets.with(b, &"a".into()), ab);
        assert_eq!(sets.union(a, b), ab);
        assert_eq!(sets.common(ab, b), b);
        assert!(sets.has(ab, "a") && !sets.has(b, "a"));
    }
}
