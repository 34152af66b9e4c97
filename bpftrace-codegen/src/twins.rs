//! Functions that are the same code as an earlier one, but for what they refer to and where in the script
//! they are from: attach points whose arguments have types of their own get a program each, and most of
//! those differ in nothing but the patches for their arguments. Such code is compiled once.

use std::collections::{BTreeMap, HashMap};

use cranelift_codegen::ir::{
    Function, InstructionData, SourceLoc, UserExternalName, function::FunctionStencil,
};

use crate::bpf::{CompiledFunction, RelocKind};
use crate::clif::ClifFunction;
use crate::symbols::{NS_PATCH, NS_PATCH_WIDE, NS_SUBPROG};

/// For a function that has an earlier twin: which one, and what is to be changed in its code.
pub(crate) struct Twin {
    /// Index of the earlier function.
    pub(crate) of: usize,
    patches: HashMap<u32, u32>,
    subprograms: HashMap<u32, u32>,
    places: HashMap<u32, u32>,
}

impl Twin {
    /// The code of the twin, made from that of the earlier function.
    pub(crate) fn adapt(&self, first: &CompiledFunction) -> CompiledFunction {
        let mut own = first.clone();
        let new = |map: &HashMap<u32, u32>, old: &mut u32| {
            if let Some(new) = map.get(old) {
                *old = *new;
            }
        };
        for reloc in &mut own.relocs {
            match &mut reloc.kind {
                RelocKind::SubprogCall(index) | RelocKind::SubprogAddr(index) => {
                    new(&self.subprograms, index);
                }
                RelocKind::Patch { patch, .. } => new(&self.patches, patch),
                RelocKind::KfuncCall(_)
                | RelocKind::KfuncAddr(_)
                | RelocKind::Map(_)
                | RelocKind::Data { .. } => {}
            }
        }
        for (_, place) in &mut own.lines {
            new(&self.places, place);
        }
        own.lines.dedup_by_key(|(_, place)| *place);
        own
    }
}

/// What a function is without its places, and those: one for each instruction.
struct Parts {
    stencil: FunctionStencil,
    places: Vec<SourceLoc>,
    names: Vec<UserExternalName>,
}

impl Parts {
    fn of(func: &Function) -> Self {
        let blocks = func.layout.blocks();
        let insts = blocks.flat_map(|block| func.layout.block_insts(block));
        let places = insts.map(|inst| func.srcloc(inst)).collect();
        let names = func.params.user_named_funcs().values().cloned().collect();
        let mut stencil = func.stencil.clone();
        stencil.srclocs.clear();
        Self {
            stencil,
            places,
            names,
        }
    }

    /// A number that twins share: of the operations, constants and names in their order.
    fn hash(&self) -> u64 {
        let mut hash = 0;
        let blocks = self.stencil.layout.blocks();
        for inst in blocks.flat_map(|block| self.stencil.layout.block_insts(block)) {
            let data = &self.stencil.dfg.insts[inst];
            hash = mixed(hash, data.opcode() as u64);
            if let InstructionData::UnaryImm { imm, .. } = data {
                hash = mixed(hash, imm.bits().cast_unsigned());
            }
        }
        for name in &self.names {
            let index = (!may_differ(name.namespace)).then_some(name.index);
            hash = mixed(hash, name.namespace.into());
            hash = mixed(hash, index.map_or(u64::MAX, u64::from));
        }
        hash
    }

    /// How a later function follows from this one, the function `of`, if it does.
    fn twin(&self, of: usize, later: &Parts) -> Option<Twin> {
        if self.names.len() != later.names.len() || self.stencil != later.stencil {
            return None;
        }
        let mut twin = Twin {
            of,
            patches: HashMap::new(),
            subprograms: HashMap::new(),
            places: HashMap::new(),
        };
        for (old, new) in self.names.iter().zip(&later.names) {
            let renamed = match old.namespace {
                NS_PATCH | NS_PATCH_WIDE => &mut twin.patches,
                NS_SUBPROG => &mut twin.subprograms,
                _ if old == new => continue,
                _ => return None,
            };
            if old.namespace != new.namespace || !adds(renamed, old.index, new.index) {
                return None;
            }
        }
        for (old, new) in self.places.iter().zip(&later.places) {
            if !adds(&mut twin.places, old.bits(), new.bits()) {
                return None;
            }
        }
        Some(twin)
    }
}

/// Whether names of a namespace only end up in relocations whose order does not depend on them.
fn may_differ(namespace: u32) -> bool {
    matches!(namespace, NS_PATCH | NS_PATCH_WIDE | NS_SUBPROG)
}

/// Takes one more number into a hash, multiplying by the golden ratio: about as many ones as zeros.
fn mixed(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Adds a pair unless the map says otherwise of its first half.
fn adds(map: &mut HashMap<u32, u32>, old: u32, new: u32) -> bool {
    *map.entry(old).or_insert(new) == new
}

/// The twin of each function that has one before it.
pub(crate) fn find(functions: &[ClifFunction]) -> Vec<Option<Twin>> {
    // Most are not even of one size.
    let size = |func: &Function| {
        (
            func.dfg.num_insts(),
            func.dfg.num_blocks(),
            func.params.user_named_funcs().len(),
        )
    };
    let mut n_of_size = BTreeMap::new();
    for function in functions {
        *n_of_size.entry(size(&function.func)).or_insert(0u32) += 1;
    }
    let mut known: HashMap<u64, (usize, Parts)> = HashMap::new();
    let mut twins = Vec::with_capacity(functions.len());
    for (index, function) in functions.iter().enumerate() {
        let mut twin = None;
        if n_of_size.get(&size(&function.func)) > Some(&1) {
            let parts = Parts::of(&function.func);
            match known.entry(parts.hash()) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let (of, first) = first.get();
                    twin = first.twin(*of, &parts);
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert((index, parts));
                }
            }
        }
        twins.push(twin);
    }
    twins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{BackendOptions, compile_function};
    use crate::clif::FunctionRole;

    /// Reads a constant through a patch, and calls a subprogram and a helper.
    fn function(patch: u32, subprogram: u32, helper: u32) -> ClifFunction {
        let text = format!(
            "function u0:0(i64) -> i64 system_v {{
                gv0 = symbol colocated u5:{patch}
                sig0 = (i64) -> i64 system_v
                fn0 = colocated u2:{subprogram} sig0
                fn1 = colocated u0:{helper} sig0
            block0(v0: i64):
            @{patch:04x} v1 = symbol_value.i64 gv0
                 v2 = call fn0(v1)
            @0100 v3 = call fn1(v2)
                 return v3
            }}"
        );
        let mut functions = cranelift_reader::parse_functions(&text).expect("valid CLIF");
        ClifFunction {
            name: format!("f{patch}"),
            func: functions.remove(0),
            role: FunctionRole::Subprogram {
                n_params: 1,
                alone: false,
            },
            span: None,
            sent: None,
        }
    }

    fn compiled(function: &ClifFunction) -> CompiledFunction {
        compile_function(function.func.clone(), &BackendOptions::new()).expect("it compiles")
    }

    #[test]
    fn code_that_refers_to_something_else_is_adapted() {
        let functions = [function(1, 2, 5), function(3, 4, 5), function(7, 2, 5)];
        let twins = find(&functions);
        assert!(twins[0].is_none());
        for (function, twin) in functions.iter().zip(&twins).skip(1) {
            let twin = twin.as_ref().expect("a twin");
            assert_eq!(twin.of, 0);
            assert_eq!(twin.adapt(&compiled(&functions[0])), compiled(function));
        }
    }

    #[test]
    fn other_helpers_and_other_places_are_no_twins() {
        let functions = [function(1, 2, 5), function(1, 2, 6)];
        assert!(find(&functions).iter().all(Option::is_none));
        // The place of the patch is that of the call.
        let functions = [function(0x100, 2, 5), function(1, 2, 5)];
        assert!(find(&functions).iter().all(Option::is_none));
    }
}
