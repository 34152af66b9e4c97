//! Call instructions with the place that they go to instead of the distance to it: many calls of one function are then
//! the same bytes, which makes executables a tenth smaller when they are compressed. The build script brings the
//! runtime shim into that form, and who unpacks it brings it back.

/// `call` and `jmp` with a distance of 32 bits (Intel SDM, volume 2).
const OPCODES: [u8; 2] = [0xe8, 0xe9];

/// Replaces distances by places, most significant byte first.
#[allow(dead_code, reason = "for the build script")]
pub(crate) fn make_absolute(code: &mut [u8]) {
    rewrite(code, |field, end, len| {
        let distance = i32::from_le_bytes(field);
        let place = if !(-end..len).contains(&distance) {
            distance
        } else if distance < len - end {
            distance + end
        } else {
            distance - len
        };
        place.to_be_bytes()
    });
}

/// Undoes [`make_absolute`].
pub(crate) fn make_relative(code: &mut [u8]) {
    rewrite(code, |field, end, len| {
        let place = i32::from_be_bytes(field);
        let distance = if !(-end..len).contains(&place) {
            place
        } else if place >= 0 {
            place - end
        } else {
            place + len
        };
        distance.to_le_bytes()
    });
}

/// Gives what is behind each opcode to `change`, with the offset behind that and the length of it all. What is taken
/// for an instruction and is none does no harm: numbers of the range from minus that offset to the length are
/// exchanged with each other, and the way back sees the same ones.
fn rewrite(code: &mut [u8], change: impl Fn([u8; 4], i32, i32) -> [u8; 4]) {
    let len = code.len() as i32;
    let mut at = 0;
    while let Some(&[opcode, a, b, c, d]) = code.get(at..at + 5) {
        at += 1;
        if OPCODES.contains(&opcode) {
            let new = change([a, b, c, d], at as i32 + 4, len);
            code[at..at + 4].copy_from_slice(&new);
            at += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{make_absolute, make_relative};

    #[test]
    fn calls_of_one_function_are_alike_and_come_back() {
        let mut code = vec![0x90; 64];
        for at in [0, 10, 50] {
            code[at] = 0xe8;
            code[at + 1..at + 5].copy_from_slice(&(40 - at as i32 - 5).to_le_bytes());
        }
        let before = code.clone();
        make_absolute(&mut code);
        assert_eq!(code[1..5], [0, 0, 0, 40]);
        assert_eq!(code[1..5], code[51..55]);
        make_relative(&mut code);
        assert_eq!(code, before);
    }

    #[test]
    fn any_bytes_come_back() {
        let mut state = 1_u32;
        for len in (0..300).chain([100_000]) {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Opcodes and small numbers, above all.
                    [0xe8, 0, 0xe9, 0, 1, 0xff, (state >> 24) as u8, 0][(state >> 16) as usize % 8]
                })
                .collect();
            let mut code = bytes.clone();
            make_absolute(&mut code);
            make_relative(&mut code);
            assert_eq!(code, bytes);
        }
    }
}
