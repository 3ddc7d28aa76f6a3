//! How values travel between members: exactly, or in fewer bytes with error feedback.

/// How the values of an averaging travel. All members of a group must choose the same for the same round.
///
/// A lossy encoding works with *error feedback*: what it cuts off is kept by the sender, value by value, and added to what it
/// sends in the next round, so that over many rounds nothing is lost (Seide et al., "1-Bit Stochastic Gradient Descent", 2014;
/// Karimireddy et al., "Error Feedback Fixes SignSGD", 2019). Everything is rounded to nearest, ties to even: no randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As they are: 4 bytes a value.
    #[default]
    F32,
    /// The upper half of an `f32`: 2 bytes a value. Off by at most 1/256 of the value.
    Bf16,
    /// Blocks of 256 values, each an integer from -127 to 127, that share a scale: 1 byte a value and 4 for each block (1.016 bytes
    /// a value in long vectors). Off by at most 1/254 of the largest value of the block. A block in which any value isn't finite
    /// becomes NaN as a whole.
    Int8,
}

/// Values that share a scale in [`Encoding::Int8`].
const BLOCK: usize = 256;
/// The largest integer of [`Encoding::Int8`].
const STEPS: f32 = 127.0;

impl Encoding {
    /// All of them.
    pub const ALL: [Encoding; 3] = [Encoding::F32, Encoding::Bf16, Encoding::Int8];

    /// The bytes that some values take.
    pub fn bytes(self, values: usize) -> usize {
        match self {
            Encoding::F32 => values * 4,
            Encoding::Bf16 => values * 2,
            Encoding::Int8 => values + values.div_ceil(BLOCK) * 4,
        }
    }

    /// Do values come back as they were?
    pub fn is_exact(self) -> bool {
        self == Encoding::F32
    }

    /// The number that stands for it in a frame.
    pub(crate) fn code(self) -> u8 {
        match self {
            Encoding::F32 => 0,
            Encoding::Bf16 => 1,
            Encoding::Int8 => 2,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Encoding> {
        Encoding::ALL.into_iter().find(|encoding| encoding.code() == code)
    }

    /// Appends encoded values.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + self.bytes(values.len()), 0);
        let to = &mut bytes[start..];
        match self {
            Encoding::F32 => to.chunks_exact_mut(4).zip(values).for_each(|(to, v)| to.copy_from_slice(&v.to_le_bytes())),
            Encoding::Bf16 => to.chunks_exact_mut(2).zip(values).for_each(|(to, v)| to.copy_from_slice(&bf16(*v).to_le_bytes())),
            Encoding::Int8 => to.chunks_mut(4 + BLOCK).zip(values.chunks(BLOCK)).for_each(|(to, block)| encode_block(block, to)),
        }
    }

    /// Reads encoded values. There must be as many bytes as [`Encoding::bytes`] says.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(bytes.len(), self.bytes(values.len()), "the length was checked when the frame came");
        match self {
            Encoding::F32 => values.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(v, b)| *v = f32_of(b)),
            Encoding::Bf16 => values.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(v, b)| *v = f32_of(&[0, 0, b[0], b[1]])),
            Encoding::Int8 => {
                for (block, from) in values.chunks_mut(BLOCK).zip(bytes.chunks(4 + BLOCK)) {
                    let scale = f32_of(&from[..4]);
                    block.iter_mut().zip(&from[4..]).for_each(|(v, b)| *v = scale * f32::from(b.cast_signed()));
                }
            }
        }
    }

    /// Encodes values and what earlier encodings `kept` back, and keeps back what this one cuts off. What isn't finite is told to
    /// the others and not kept. Returns the values as the others will read them.
    pub(crate) fn encode_with_feedback(self, values: &[f32], kept: &mut [f32], bytes: &mut Vec<u8>) -> Vec<f32> {
        kept.iter_mut().zip(values).for_each(|(k, v)| *k += v);
        let start = bytes.len();
        self.encode(kept, bytes);
        let mut read = vec![0.0; values.len()];
        self.decode(&bytes[start..], &mut read);
        for (k, r) in kept.iter_mut().zip(&read) {
            let off = *k - r;
            *k = if off.is_finite() { off } else { 0.0 };
        }
        read
    }
}

/// One block: its scale, then its integers.
fn encode_block(block: &[f32], to: &mut [u8]) {
    // A maximum that doesn't overlook NaN.
    let largest = block.iter().fold(0.0_f32, |most, v| if v.abs() <= most { most } else { v.abs() });
    let scale = if block.iter().all(|v| v.is_finite()) { largest / STEPS } else { f32::NAN };
    to[..4].copy_from_slice(&scale.to_le_bytes());
    // Values so small that their scale is zero, and blocks that aren't finite, need no integers but 1: 0 · 1 and NaN · 1.
    if scale == 0.0 || scale.is_nan() {
        return to[4..].fill(1);
    }
    for (to, v) in to[4..].iter_mut().zip(block) {
        *to = ((v / scale).round_ties_even().clamp(-STEPS, STEPS) as i8).cast_unsigned();
    }
}

/// The nearest bf16, ties to even.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn f32_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(encoding: Encoding, values: &[f32]) -> Vec<f32> {
        let (mut bytes, mut read) = (vec![9; 3], vec![0.0; values.len()]);
        encoding.encode(values, &mut bytes);
        assert_eq!(bytes.len(), 3 + encoding.bytes(values.len()));
        encoding.decode(&bytes[3..], &mut read);
        read
    }

    fn any_values() -> impl Strategy<Value = Vec<f32>> {
        let value = (-1.0_f32..1.0, -30..30_i32).prop_map(|(mantissa, exponent)| mantissa * 2_f32.powi(exponent));
        proptest::collection::vec(value, 0..700)
    }

    proptest! {
        #[test]
        fn values_come_back_as_exactly_as_each_encoding_promises(values in any_values()) {
            prop_assert_eq!(&there_and_back(Encoding::F32, &values), &values);
            for (v, r) in values.iter().zip(there_and_back(Encoding::Bf16, &values)) {
                prop_assert!((v - r).abs() <= v.abs() / 256.0, "{} came back as {}", v, r);
            }
            let read = there_and_back(Encoding::Int8, &values);
            for (block, read) in values.chunks(BLOCK).zip(read.chunks(BLOCK)) {
                let largest = block.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
                for (v, r) in block.iter().zip(read) {
                    prop_assert!((v - r).abs() <= largest / 254.0 * 1.000_01, "{} came back as {} beside {}", v, r, largest);
                }
            }
        }

        #[test]
        fn what_is_encoded_twice_is_not_changed_the_second_time(values in any_values()) {
            for encoding in [Encoding::F32, Encoding::Bf16] {
                let once = there_and_back(encoding, &values);
                prop_assert_eq!(&there_and_back(encoding, &once), &once);
            }
        }

        #[test]
        fn with_feedback_the_sum_of_what_is_read_stays_within_one_step_of_the_sum_of_what_was_meant(
            rounds in proptest::collection::vec(proptest::collection::vec(-1.0_f32..1.0, 5), 1..60),
        ) {
            for encoding in [Encoding::Bf16, Encoding::Int8] {
                let (mut kept, mut meant, mut read) = ([0.0; 5], [0.0_f64; 5], [0.0_f64; 5]);
                for values in &rounds {
                    let came = encoding.encode_with_feedback(values, &mut kept, &mut Vec::new());
                    meant.iter_mut().zip(values).for_each(|(sum, v)| *sum += f64::from(*v));
                    read.iter_mut().zip(came).for_each(|(sum, v)| *sum += f64::from(v));
                }
                for ((meant, read), kept) in meant.iter().zip(read).zip(kept) {
                    prop_assert!((meant - read - f64::from(kept)).abs() < 1e-4);
                    prop_assert!(kept.abs() <= 1.02 / 127.0, "{} is kept", kept);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_by_the_reader_and_does_not_linger() {
        for encoding in Encoding::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.5; 300];
                values[270] = bad;
                let read = there_and_back(encoding, &values);
                assert!(!read[270].is_finite() && read[..256].iter().all(|v| v.is_finite()), "{encoding:?}");
            }
        }
        for encoding in [Encoding::Bf16, Encoding::Int8] {
            let mut kept = [0.0];
            encoding.encode_with_feedback(&[f32::NAN], &mut kept, &mut Vec::new());
            assert_eq!(kept, [0.0]);
            assert_eq!(encoding.encode_with_feedback(&[1.0], &mut kept, &mut Vec::new()), [1.0]);
        }
    }

    #[test]
    fn the_smallest_and_the_largest_numbers_do_not_divide_by_zero() {
        for values in [[0.0, -0.0], [f32::MIN_POSITIVE, 1e-45], [3e38, -3e38], [1e-45, -1e-45]] {
            let read = there_and_back(Encoding::Int8, &values);
            assert!(read.iter().all(|v| v.is_finite()), "{values:?} came back as {read:?}");
        }
        assert_eq!(there_and_back(Encoding::Int8, &[127.0, -127.0, 63.0, 0.5, 1.5]), [127.0, -127.0, 63.0, 0.0, 2.0]);
        assert_eq!(there_and_back(Encoding::Bf16, &[1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]), [1.0, 1.0, 1.0 + 4.0 / 256.0]);
    }

    #[test]
    fn the_bytes_of_an_encoding_are_a_promise() {
        let bytes = |encoding: Encoding| {
            let mut bytes = Vec::new();
            encoding.encode(&[1.0, -2.0, 0.3], &mut bytes);
            bytes
        };
        assert_eq!(bytes(Encoding::F32), [0, 0, 128, 63, 0, 0, 0, 192, 154, 153, 153, 62]);
        assert_eq!(bytes(Encoding::Bf16), [128, 63, 0, 192, 154, 62]);
        assert_eq!(bytes(Encoding::Int8), [[4, 2, 129, 60].as_slice(), &[64, 129, 19]].concat());
        assert!(Encoding::ALL.into_iter().all(|encoding| Encoding::of_code(encoding.code()) == Some(encoding)));
    }
}
