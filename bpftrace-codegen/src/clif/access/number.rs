//! Reading what is at the end of a path: numbers, those of the kernel with the size and sign they have on the
//! target, and bit-fields.

use bpftrace_sema::Mem;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};

use super::super::R;
use super::super::func::{FnCx, constant};
use super::super::helper::Helper;
use super::super::memory::{Access, Addr};
use super::{BitField, Path, Sign};
use crate::meta_out::bit_field_container;
use crate::object::CoreKind;
use crate::symbols::Symbol;

impl FnCx<'_, '_> {
    /// Reads a number at a path.
    pub(super) fn read_path(&mut self, path: &Path, ty: Type) -> R<Value> {
        if path.is_value {
            return Ok(self.resize_int(path.base, ty, false));
        }
        if let Some(bits) = path.bits {
            return self.read_bit_field(path, bits, ty);
        }
        if path.is_argument {
            // Arguments fill 64 bits each, and the verifier wants them read like that.
            let address = self.path_address(path)?;
            let value = self.b.ins().load(types::I64, constant(), address, 0);
            return Ok(self.resize_int(value, ty, false));
        }
        if let (Some(sign), Some(_), Mem::Kernel | Mem::User | Mem::Unknown | Mem::Btf) =
            (path.sign, &path.core, path.mem)
        {
            return self.read_relocated_number(path, sign, ty);
        }
        let address = self.path_address(path)?;
        self.read_number(path.mem, ty, address)
    }

    /// An integer that may have another size on the target, or be a bit-field there. Where it has the size that
    /// it was compiled with, the verifier drops all but the plain read.
    fn read_relocated_number(&mut self, path: &Path, sign: Sign, ty: Type) -> R<Value> {
        let address = self.path_address(path)?;
        let Some(patch) = self.path_patch(path, CoreKind::FieldByteSize) else {
            return self.internal("a member of the kernel without a relocation");
        };
        let is_direct = path.mem == Mem::Btf;
        let size = match is_direct {
            true => self.symbol(Symbol::Patch(patch), 0),
            // The register is that of the helper's argument, so that asking costs nothing.
            false => self.shared_symbol(Symbol::Patch(patch)),
        };
        // Free again once the number is in a register: an address may be read that another is read from.
        let mark = self.temps.len();
        let word = self.temp_word();
        let (same, other, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, ty);
        self.b.set_cold_block(other);
        if let Some(shift) = self.right_shift(path) {
            let whole = self.b.create_block();
            let n_above = 64 - 8 * i64::from(ty.bytes());
            let has_all_bits = self.cmp_imm(IntCC::Equal, shift, n_above);
            self.brif(has_all_bits, whole, other);
            self.enter(whole);
        }
        let is_same = self.cmp_imm(IntCC::Equal, size, i64::from(ty.bytes()));
        self.brif(is_same, same, other);
        self.enter(same);
        let value = if is_direct {
            self.read_number(path.mem, ty, address)?
        } else {
            self.read_bytes_dynamic(path.mem, word, size, address)?;
            self.load(ty, word, Access::Own)
        };
        self.jump(after, &[value]);

        self.enter(other);
        self.store_imm(types::I64, 0, word);
        let size = self.symbol(Symbol::Patch(patch), 0);
        let size = self.at_most(size, 8);
        self.read_bytes_dynamic(path.mem, word, size, address)?;
        let value = self.load(types::I64, word, Access::Own);
        let signed = match sign {
            Sign::OfTarget => match self.path_patch(path, CoreKind::FieldSigned) {
                Some(patch) => self.symbol(Symbol::Patch(patch), 0),
                None => self.i64(0),
            },
            Sign::Known(signed) => self.i64(i64::from(signed)),
        };
        // The bits move to the upper end and back, which is where a bit-field's neighbours go.
        let left = match path.is_element {
            false => self.path_patch(path, CoreKind::FieldLeftShift),
            true => None,
        };
        let (left, right) = match (left, self.right_shift(path)) {
            (Some(left), Some(right)) => (self.symbol(Symbol::Patch(left), 0), right),
            _ => {
                let (three, all) = (self.i64(3), self.i64(64));
                let bits = self.b.ins().ishl(size, three);
                let above = self.b.ins().isub(all, bits);
                (above, above)
            }
        };
        let value = self.b.ins().ishl(value, left);
        let value = self.choose(
            signed,
            types::I64,
            |cx| Ok(cx.b.ins().sshr(value, right)),
            |cx| Ok(cx.b.ins().ushr(value, right)),
        )?;
        let value = self.resize_int(value, ty, false);
        self.jump(after, &[value]);
        self.enter(after);
        self.release_temps(mark);
        Ok(result)
    }

    /// How far the bits of a member have to move down from the upper end of 64.
    fn right_shift(&mut self, path: &Path) -> Option<Value> {
        if path.is_element {
            return None;
        }
        let patch = self.path_patch(path, CoreKind::FieldRightShift)?;
        Some(self.symbol(Symbol::Patch(patch), 0))
    }

    /// Reads a number.
    pub(in super::super) fn read_number(&mut self, mem: Mem, ty: Type, address: Value) -> R<Value> {
        match mem {
            Mem::Ctx => Ok(self.b.ins().load(ty, constant(), address, 0)),
            Mem::Btf => Ok(self.b.ins().atomic_load(ty, MemFlagsData::new(), address)),
            Mem::Bpf => {
                // Such a pointer may be that of a map value, which may be missing.
                self.choose(
                    address,
                    ty,
                    |cx| Ok(cx.load(ty, Addr::value(address, 8), Access::Shared)),
                    |cx| Ok(cx.int(ty, 0)),
                )
            }
            Mem::Kernel | Mem::User | Mem::Unknown => {
                let mark = self.temps.len();
                let word = self.temp_word();
                self.read_bytes(mem, word, u64::from(ty.bytes()), address)?;
                let value = self.load(ty, word, Access::Own);
                self.release_temps(mark);
                Ok(value)
            }
        }
    }

    /// Reads bytes into the program's own memory; zeros if that fails.
    pub(in super::super) fn read_bytes(
        &mut self,
        mem: Mem,
        dst: Addr,
        size: u64,
        address: Value,
    ) -> R<()> {
        let size_value = self.i64(size as i64);
        self.read_bytes_dynamic(mem, dst, size_value, address)
    }

    /// The same with a number of bytes that the verifier can bound.
    pub(in super::super) fn read_bytes_dynamic(
        &mut self,
        mem: Mem,
        dst: Addr,
        size: Value,
        address: Value,
    ) -> R<()> {
        let helper = match mem {
            Mem::User => Helper::ProbeReadUser,
            Mem::Unknown => Helper::ProbeRead,
            Mem::Kernel | Mem::Ctx | Mem::Btf | Mem::Bpf => Helper::ProbeReadKernel,
        };
        let dst = self.addr_value(dst);
        let result = self.call(helper, &[dst, size, address]);
        self.check_extra(helper, result)
    }

    /// A bit-field: the integer that holds it, shifted left and right. In this language a bit-field has
    /// no sign, whatever its declaration says.
    fn read_bit_field(&mut self, path: &Path, bits: BitField, ty: Type) -> R<Value> {
        let value = match &path.core {
            Some(_) => self.read_relocated_bits(path)?,
            None => {
                // `add_fixed` has added the byte of the first bit.
                let (size, offset, shift) =
                    bit_field_container(bits.bit_offset, bits.bits, bits.declared);
                let mut container = path.clone();
                container.bits = None;
                container.offset += offset as i64 - (bits.bit_offset / 8) as i64;
                let clif = match size {
                    1 => types::I8,
                    2 => types::I16,
                    4 => types::I32,
                    _ => types::I64,
                };
                let value = self.read_path(&container, clif)?;
                let value = self.zext64(value);
                let left = 64 - i64::from(shift) - i64::from(bits.bits);
                let right = 64 - i64::from(bits.bits);
                let (left, right) = (self.i64(left), self.i64(right));
                let value = self.b.ins().ishl(value, left);
                self.b.ins().ushr(value, right)
            }
        };
        Ok(self.resize_int(value, ty, false))
    }

    /// As the macros of libbpf do it (bpf_core_read.h): place, size and shifts come from the target's types.
    fn read_relocated_bits(&mut self, path: &Path) -> R<Value> {
        let mut whole = path.clone();
        whole.bits = None;
        let address = self.path_address(&whole)?;
        let [Some(size), Some(left), Some(right)] = [
            CoreKind::FieldByteSize,
            CoreKind::FieldLeftShift,
            CoreKind::FieldRightShift,
        ]
        .map(|kind| self.path_patch(&whole, kind)) else {
            return self.internal("a bit-field without a relocation");
        };
        let mark = self.temps.len();
        let word = self.temp_word();
        self.store_imm(types::I64, 0, word);
        let size = self.symbol(Symbol::Patch(size), 0);
        self.read_bytes_dynamic(path.mem, word, size, address)?;
        let value = self.load(types::I64, word, Access::Own);
        self.release_temps(mark);
        let left = self.symbol(Symbol::Patch(left), 0);
        let right = self.symbol(Symbol::Patch(right), 0);
        let value = self.b.ins().ishl(value, left);
        Ok(self.b.ins().ushr(value, right))
    }
}
