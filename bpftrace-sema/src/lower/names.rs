//! Where names are in structs and records that have many of them: reading each of the members in turn takes time in
//! proportion to their number.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Lowerer;
use crate::{StructId, Ty};

/// Anonymous structs in anonymous structs go no deeper.
const MAX_ANONYMOUS: usize = 16;

/// Structs are searched so often before it pays to know all of their members.
const FEW_SEARCHES: usize = 16;

/// Records of so many fields are searched one by one.
const FEW_FIELDS: usize = 16;

/// What is known about structs and records.
#[derive(Debug, Default)]
pub(super) struct NamesOf {
    structs: HashMap<StructId, Members>,
    /// By the address of the fields, which are kept.
    records: HashMap<usize, Fields>,
}

/// The fields of a record.
#[derive(Debug)]
struct Fields {
    places: HashMap<String, usize>,
    _kept: Rc<[(String, Ty)]>,
}

impl NamesOf {
    /// Types of records are made anew in each round.
    pub(super) fn forget_records(&mut self) {
        self.records.clear();
    }
}

/// Where the members of a struct are.
#[derive(Debug)]
enum Members {
    /// Nobody has looked for all of them.
    Searched(usize),
    /// All of them, with the number of the struct's own: they were not known yet if it has others now.
    Known(usize, HashMap<String, Vec<u32>>),
}

impl Lowerer<'_, '_> {
    /// The place of a field in a record.
    pub(super) fn find_field(&mut self, fields: &Rc<[(String, Ty)]>, name: &str) -> Option<usize> {
        if fields.len() <= FEW_FIELDS {
            return fields.iter().position(|(known, _)| known == name);
        }
        let records = &mut self.s.names.records;
        let known = records.entry(fields.as_ptr().addr());
        let known = known.or_insert_with(|| {
            let names = fields.iter().map(|(name, _)| name.clone());
            Fields {
                places: names.zip(0..).collect(),
                _kept: fields.clone(),
            }
        });
        known.places.get(name).copied()
    }

    /// Indices of members, from a struct through anonymous ones to the member of a name.
    pub(super) fn find_member(&mut self, id: StructId, name: &str) -> Option<Vec<u32>> {
        if name.is_empty() {
            return None;
        }
        self.complete(id);
        let n_members = self.s.imported.table.struct_def(id).members.len();
        let known = self.s.names.structs.entry(id);
        match known.or_insert(Members::Searched(0)) {
            Members::Known(n, members) if *n == n_members => return members.get(name).cloned(),
            Members::Known(..) => {}
            Members::Searched(n) if *n < FEW_SEARCHES => {
                *n += 1;
                return self.search_members(id, name);
            }
            Members::Searched(_) => {}
        }
        let mut members = HashMap::new();
        self.each_member(id, |name, path| {
            members.entry(name.to_owned()).or_insert_with(path);
            false
        });
        let found = members.get(name).cloned();
        let members = Members::Known(n_members, members);
        self.s.names.structs.insert(id, members);
        found
    }

    fn search_members(&mut self, id: StructId, name: &str) -> Option<Vec<u32>> {
        let mut found = None;
        self.each_member(id, |known, path| {
            if known == name {
                found = Some(path());
            }
            found.is_some()
        });
        found
    }

    /// Calls a function for each member with a name, those of anonymous members behind all others, until it says
    /// that this is enough.
    fn each_member(
        &mut self,
        id: StructId,
        mut is_enough: impl FnMut(&str, &dyn Fn() -> Vec<u32>) -> bool,
    ) {
        let mut seen = HashSet::from([id]);
        let mut level: Vec<(StructId, Vec<u32>)> = vec![(id, Vec::new())];
        for _ in 0..MAX_ANONYMOUS {
            let mut next = Vec::new();
            for (id, path) in level {
                self.complete(id);
                let members = &self.s.imported.table.struct_def(id).members;
                for (idx, member) in (0..).zip(members) {
                    let path = || {
                        let mut path = path.clone();
                        path.push(idx);
                        path
                    };
                    if !member.name.is_empty() {
                        if is_enough(&member.name, &path) {
                            return;
                        }
                    } else if let Ty::Struct(inner, _) = member.ty
                        && seen.insert(inner)
                    {
                        next.push((inner, path()));
                    }
                }
            }
            level = next;
        }
    }
}
