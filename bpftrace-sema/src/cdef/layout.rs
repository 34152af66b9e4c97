//! Where members go: the System V ABI of x86-64, with `packed` and `aligned`.

/// What is known about a member before it has a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes.
    pub(super) size: u64,
    /// Bytes.
    pub(super) align: u64,
    /// What the member's own `aligned` says, in bytes; 1 without. It holds in packed structs too.
    pub(super) asked: u64,
    /// Width of a bit-field.
    pub(super) bits: Option<u64>,
}

/// A struct or union in the making.
#[derive(Debug)]
pub(super) struct Layout {
    is_union: bool,
    packed: bool,
    /// End of what is there, in bits.
    end: u64,
    size: u64,
    align: u64,
}

impl Layout {
    pub(super) fn new(is_union: bool, packed: bool) -> Self {
        Self {
            is_union,
            packed,
            end: 0,
            size: 0,
            align: 1,
        }
    }

    /// Puts a member behind the others; its offset in bits.
    pub(super) fn place(&mut self, shape: Shape, named: bool) -> u64 {
        let align = if self.packed {
            shape.asked.max(1)
        } else {
            shape.align.max(1)
        };
        let start = if self.is_union { 0 } else { self.end };
        let (offset, end) = match shape.bits {
            None => {
                let offset = start.next_multiple_of(align * 8);
                (offset, offset.saturating_add(shape.size.saturating_mul(8)))
            }
            // A width of zero ends the unit.
            Some(0) => {
                let offset = start.next_multiple_of(shape.size.max(1) * 8);
                (offset, offset)
            }
            Some(bits) => {
                let unit = shape.size.max(1) * 8;
                let crosses = start / unit != (start + bits - 1) / unit;
                let offset = if crosses && !self.packed {
                    start.next_multiple_of(unit)
                } else {
                    start
                };
                (offset, offset + bits)
            }
        };
        // Nameless bit-fields do not align the whole.
        if shape.bits.is_none() || named {
            self.align = self.align.max(align);
        }
        self.end = end;
        self.size = self.size.max(end.div_ceil(8));
        offset
    }

    /// Raises the alignment of the whole.
    pub(super) fn align_to(&mut self, align: u64) {
        self.align = self.align.max(align);
    }

    /// Size and alignment in bytes.
    pub(super) fn finish(&self) -> (u64, u64) {
        (self.size.next_multiple_of(self.align), self.align)
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout, Shape};

    const INT: Shape = Shape {
        size: 4,
        align: 4,
        asked: 1,
        bits: None,
    };
    const CHAR: Shape = Shape {
        size: 1,
        align: 1,
        asked: 1,
        bits: None,
    };

    fn bits(n: u64) -> Shape {
        Shape {
            bits: Some(n),
            ..INT
        }
    }

    #[test]
    fn members_are_aligned_and_the_end_is_padded() {
        let mut layout = Layout::new(false, false);
        assert_eq!([layout.place(CHAR, true), layout.place(INT, true)], [0, 32]);
        assert_eq!(layout.place(CHAR, true), 64);
        assert_eq!(layout.finish(), (12, 4));
    }

    #[test]
    fn packed_leaves_no_gaps_and_unions_share_the_start() {
        let mut layout = Layout::new(false, true);
        assert_eq!([layout.place(CHAR, true), layout.place(INT, true)], [0, 8]);
        assert_eq!(layout.finish(), (5, 1));
        // F017
        let mut layout = Layout::new(false, true);
        let aligned = Shape { asked: 8, ..INT };
        assert_eq!(
            [CHAR, aligned, CHAR].map(|shape| layout.place(shape, true)),
            [0, 64, 96]
        );
        assert_eq!(layout.finish(), (16, 8));
        let mut layout = Layout::new(true, false);
        assert_eq!([layout.place(CHAR, true), layout.place(INT, true)], [0, 0]);
        assert_eq!(layout.finish(), (4, 4));
    }

    #[test]
    fn bit_fields_share_units_and_do_not_cross_them() {
        let mut layout = Layout::new(false, false);
        let places: Vec<u64> = [3, 5, 25, 0, 1]
            .map(|n| layout.place(bits(n), n > 0))
            .to_vec();
        assert_eq!(places, [0, 3, 32, 64, 64]);
        assert_eq!(layout.finish(), (12, 4));
    }
}
