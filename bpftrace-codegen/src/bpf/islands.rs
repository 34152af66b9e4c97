//! Jumps over more than 32,767 instructions.
//!
//! A jump has 16 bits for its distance (`gotol`, which has 32, is of ISA v4). What leads further goes
//! by way of islands: places between instructions that hold nothing but jumps, and that code which
//! merely passes by jumps over. Functions that have no far jumps are left as they are.
//!
//! Islands push other code apart. So a jump to an island is chosen with room to spare and then stays
//! as it is: an island's jump that nobody used any more could not be reached, and the verifier would
//! refuse the program.

use std::collections::BTreeMap;

use super::BackendError;
use super::emit::Emitted;
use super::insn::Insn;

/// A place that an island may be inserted at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The instruction that comes after it.
    pub(super) before: u32,
    /// Whether execution gets here from the instruction before it.
    pub(super) is_passed: bool,
}

/// A jump that is not filled in yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    /// Where the jump is.
    pub(super) at: u32,
    /// Where it leads.
    pub(super) target: u32,
}

/// How many instructions to leave between places for islands, for jumps of that reach.
pub(super) fn spacing(reach: u32) -> u32 {
    (reach / 8).max(1)
}

/// Fills in all jumps of `emitted`, through islands where needed. `cuts` is in ascending order;
/// `reach` is the longest distance of a jump.
pub(super) fn link(
    emitted: Emitted,
    jumps: &[Jump],
    cuts: &[Cut],
    reach: u32,
) -> Result<Emitted, BackendError> {
    // The more room is left the less likely is it that islands push a jump's target out of reach.
    let mut result = Err(BackendError::JumpTooFar { distance: 0 });
    for room in [reach / 8, reach / 4, reach / 2] {
        result = Islands::plan(jumps, cuts, reach.into(), room.into());
        if result.is_ok() {
            break;
        }
    }
    result?.write(emitted)
}

/// A jump of the program, or of an island.
struct Node {
    place: Place,
    /// Where it leads in the end, in instructions before there were islands.
    target: u32,
    /// The node to jump to, if it is too far to jump there at once.
    via: Option<usize>,
}

#[derive(Clone, Copy)]
enum Place {
    /// In the program, counted before there were islands.
    Code(u32),
    /// The `nth` jump of an island.
    Island { cut: usize, nth: u32 },
}

struct Islands<'a> {
    cuts: &'a [Cut],
    nodes: Vec<Node>,
    /// The island jumps by their cut and target.
    entries: BTreeMap<(usize, u32), usize>,
    /// For each cut, how many jumps its island has.
    n_entries: Vec<u32>,
    /// For each cut, how many instructions all islands before it take.
    shift: Vec<u32>,
    reach: i64,
}

impl<'a> Islands<'a> {
    /// Decides which islands there are and who uses them.
    fn plan(
        jumps: &[Jump],
        cuts: &'a [Cut],
        reach: i64,
        room: i64,
    ) -> Result<Islands<'a>, BackendError> {
        let node = |jump: &Jump| Node {
            place: Place::Code(jump.at),
            target: jump.target,
            via: None,
        };
        let mut islands = Islands {
            cuts,
            nodes: jumps.iter().map(node).collect(),
            entries: BTreeMap::new(),
            n_entries: vec![0; cuts.len()],
            shift: vec![0; cuts.len()],
            reach,
        };
        loop {
            islands.place();
            let mut is_settled = true;
            let mut next = 0;
            while next < islands.nodes.len() {
                is_settled &= islands.settle(next, room)?;
                next += 1;
            }
            if is_settled {
                return Ok(islands);
            }
        }
    }

    /// Sends a jump whose target is too far away to an island. False if that changed anything.
    fn settle(&mut self, node: usize, room: i64) -> Result<bool, BackendError> {
        let from = self.position(self.nodes[node].place);
        let distance = self.distance(from, self.destination(node));
        if distance.abs() <= self.reach {
            return Ok(true);
        }
        if self.nodes[node].via.is_some() {
            // Pushed out of reach.
            return Err(BackendError::JumpTooFar { distance });
        }
        let target = self.nodes[node].target;
        let reach = self.reach - room;
        let is_on_the_way = |&cut: &usize| {
            let step = self.distance(from, self.cut_position(cut));
            step.signum() == distance.signum() && step.abs() <= reach && step.abs() < distance.abs()
        };
        let mut cuts = 0..self.cuts.len();
        let cut = if distance > 0 {
            cuts.rfind(is_on_the_way)
        } else {
            cuts.find(is_on_the_way)
        };
        let Some(cut) = cut else {
            return Err(BackendError::JumpTooFar { distance });
        };
        let entry = match self.entries.get(&(cut, target)) {
            Some(&entry) => entry,
            None => {
                let entry = self.nodes.len();
                let place = Place::Island {
                    cut,
                    nth: self.n_entries[cut],
                };
                self.n_entries[cut] += 1;
                self.entries.insert((cut, target), entry);
                self.nodes.push(Node {
                    place,
                    target,
                    via: None,
                });
                entry
            }
        };
        self.nodes[node].via = Some(entry);
        Ok(false)
    }

    fn size(&self, cut: usize) -> u32 {
        match self.n_entries[cut] {
            0 => 0,
            n_entries => n_entries + u32::from(self.cuts[cut].is_passed),
        }
    }

    fn place(&mut self) {
        let mut shift = 0;
        for cut in 0..self.cuts.len() {
            self.shift[cut] = shift;
            shift += self.size(cut);
        }
    }

    /// Where an instruction of the program ends up: after the island at its place.
    fn moved(&self, old: u32) -> u32 {
        let n_before = self.cuts.partition_point(|cut| cut.before <= old);
        match n_before.checked_sub(1) {
            Some(cut) => old + self.shift[cut] + self.size(cut),
            None => old,
        }
    }

    /// Where the jumps of an island start.
    fn cut_position(&self, cut: usize) -> u32 {
        self.cuts[cut].before + self.shift[cut] + u32::from(self.cuts[cut].is_passed)
    }

    fn position(&self, place: Place) -> u32 {
        match place {
            Place::Code(at) => self.moved(at),
            Place::Island { cut, nth } => self.cut_position(cut) + nth,
        }
    }

    /// Where a jump leads as things stand.
    fn destination(&self, node: usize) -> u32 {
        match self.nodes[node].via {
            Some(entry) => self.position(self.nodes[entry].place),
            None => self.moved(self.nodes[node].target),
        }
    }

    fn distance(&self, from: u32, to: u32) -> i64 {
        i64::from(to) - i64::from(from) - 1
    }

    fn write(self, emitted: Emitted) -> Result<Emitted, BackendError> {
        let Emitted {
            code: old_code,
            mut relocs,
            mut lines,
        } = emitted;
        let mut code = Vec::with_capacity(old_code.len());
        let mut start = 0;
        for (cut, place) in self.cuts.iter().enumerate() {
            let end = place.before as usize * 8;
            code.extend(&old_code[start..end]);
            start = end;
            let n_entries = self.n_entries[cut];
            if n_entries > 0 && place.is_passed {
                let off = jump_offset(n_entries.into())?;
                Insn::Jump { off }.encode(&mut code);
            }
            for _ in 0..n_entries {
                Insn::Jump { off: 0 }.encode(&mut code);
            }
        }
        code.extend(&old_code[start..]);
        for (idx, node) in self.nodes.iter().enumerate() {
            let from = self.position(node.place);
            let off = jump_offset(self.distance(from, self.destination(idx)))?;
            let at = from as usize * 8;
            code[at + 2..at + 4].copy_from_slice(&off.to_le_bytes());
        }
        for reloc in &mut relocs {
            reloc.insn_idx = self.moved(reloc.insn_idx);
        }
        for (insn_idx, _) in &mut lines {
            *insn_idx = self.moved(*insn_idx);
        }
        Ok(Emitted {
            code,
            relocs,
            lines,
        })
    }
}

fn jump_offset(distance: i64) -> Result<i16, BackendError> {
    i16::try_from(distance).map_err(|_| BackendError::JumpTooFar { distance })
}
