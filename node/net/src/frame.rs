//! What stands on the stream between two members, once they know each other.

use crate::{Encoding, MAX_NOTE_BYTES};

/// The longest vector that is averaged: 256 MiB.
pub(crate) const MAX_FLOATS: usize = 64 * 1024 * 1024;
/// In a farewell's tag: nobody is to blame.
const NOBODY: u64 = u64::MAX;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The sender's values of the receiver's share.
    Values,
    /// The mean of the sender's share.
    Mean,
    /// A note to all.
    Note,
    /// The sender leaves in order; nothing follows.
    Farewell,
}

/// Stands before each frame; 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub part: Part,
    /// How the values are encoded; `F32` in notes.
    pub encoding: Encoding,
    /// The sender's position.
    pub from: u32,
    /// The round, or the note's tag; in a farewell the position of the member because of which the sender leaves.
    pub tag: u64,
    /// The sender's samples; 0 in all but values.
    pub weight: u64,
    /// The length of the whole vector in floats; 0 in notes.
    pub floats: u32,
    /// Bytes that follow.
    pub bytes: u32,
}

impl FrameHeader {
    pub const BYTES: usize = 32;

    pub fn note(from: u32, tag: u64, bytes: u32) -> FrameHeader {
        FrameHeader { part: Part::Note, encoding: Encoding::F32, from, tag, weight: 0, floats: 0, bytes }
    }

    pub fn farewell(from: u32, because: Option<u32>) -> FrameHeader {
        FrameHeader { part: Part::Farewell, ..FrameHeader::note(from, because.map_or(NOBODY, u64::from), 0) }
    }

    /// Whom a farewell blames.
    pub fn because(&self) -> Option<u32> {
        u32::try_from(self.tag).ok()
    }

    /// Could this be a frame at all, whatever the round? Bounds what is read on the sender's mere word.
    pub fn is_bounded(&self) -> bool {
        let most = match self.part {
            Part::Values | Part::Mean => Encoding::F32.bytes(MAX_FLOATS),
            Part::Note => MAX_NOTE_BYTES,
            Part::Farewell => 0,
        };
        self.bytes as usize <= most
    }

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = match self.part {
            Part::Values => 1,
            Part::Mean => 2,
            Part::Note => 3,
            Part::Farewell => 4,
        };
        bytes[1] = self.encoding.code();
        bytes[4..8].copy_from_slice(&self.from.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tag.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.weight.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.floats.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<FrameHeader> {
        let part = match bytes[0] {
            1 => Part::Values,
            2 => Part::Mean,
            3 => Part::Note,
            4 => Part::Farewell,
            _ => return None,
        };
        let encoding = Encoding::of_code(bytes[1]).filter(|_| bytes[2..4] == [0, 0])?;
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let (from, tag, weight) = (u32_at(4), u64_at(8), u64_at(16));
        Some(FrameHeader { part, encoding, from, tag, weight, floats: u32_at(24), bytes: u32_at(28) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes_and_nonsense_is_refused() {
        let header = FrameHeader {
            part: Part::Mean,
            encoding: Encoding::Int8,
            from: 3,
            tag: 1 << 40,
            weight: 99,
            floats: 20_000,
            bytes: 80_000,
        };
        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
        let golden = "020200000300000000000000000100006300000000000000204e000080380100";
        assert_eq!(header.encode().iter().map(|b| format!("{b:02x}")).collect::<String>(), golden);
        assert_eq!(FrameHeader::decode(&[9; 32]), None);
        for at in [1, 2, 3] {
            let mut bytes = header.encode();
            bytes[at] = 3;
            assert_eq!(FrameHeader::decode(&bytes), None);
        }
        assert_eq!(FrameHeader::farewell(1, None).because(), None);
        assert_eq!(FrameHeader::farewell(1, Some(7)).because(), Some(7));
        assert!(!FrameHeader { bytes: u32::MAX, ..header }.is_bounded());
        assert!(!FrameHeader::note(0, 0, MAX_NOTE_BYTES as u32 + 1).is_bounded());
    }
}
