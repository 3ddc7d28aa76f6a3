//! What bytes from other peers reach first, for the fuzz targets in `fuzz/`: no part of this crate's interface.

use std::io;

use bao_tree::{
    BaoTree,
    io::{
        outboard::PreOrderMemOutboard,
        sync::{encode_ranges_validated, outboard},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{Hash, encode};
use futures::{executor::block_on, io::Cursor};
use tokio::sync::{Semaphore, watch};

use crate::{
    BlobFault, Encoding, NetError, PeerAddress,
    blobs::{Answer, GROUP, Request, chunks_from, receive_groups},
    frame::FrameHeader,
    hello::{Hello, Welcome},
    link::{AHEAD_KIB, Pulse, read_frame},
    wire::receive,
};

/// The frames at the beginning of a stream from a member: of each the bytes of its header, as we would write them, and its body.
pub fn frames(stream: &[u8], member: u32) -> Vec<([u8; FrameHeader::BYTES], Vec<u8>)> {
    let (mut reader, pulse, room) = (Cursor::new(stream), Pulse::new(), std::sync::Arc::new(Semaphore::new(AHEAD_KIB)));
    let mut frames = Vec::new();
    while let Ok((frame, _)) = block_on(read_frame(&mut reader, member, &pulse, &room)) {
        frames.push((frame.header.encode(), frame.body));
    }
    frames
}

/// Values that travel encoded: read, written and read again. `None` where the bytes are not as many as the values need.
pub fn values(encoding: Encoding, bytes: &[u8], count: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let read = |bytes: &[u8]| {
        let mut values = vec![0.0; count];
        encoding.decode(bytes, &mut values);
        values
    };
    let first = (bytes.len() == encoding.bytes(count)).then(|| read(bytes))?;
    let mut written = Vec::new();
    encoding.encode(&first, &mut written);
    let second = read(&written);
    Some((first, second))
}

/// A small message of each kind, where the stream begins with one: as we would write it.
pub fn messages(stream: &[u8]) -> Vec<Vec<u8>> {
    fn one<T: BorshSerialize + BorshDeserialize>(stream: &[u8]) -> Option<Vec<u8>> {
        let body = encode(&block_on(receive::<T>(&mut Cursor::new(stream))).ok()?);
        Some([(body.len() as u32).to_le_bytes().as_slice(), &body].concat())
    }
    [one::<Request>(stream), one::<Answer>(stream), one::<Hello>(stream), one::<Welcome>(stream)].into_iter().flatten().collect()
}

/// One message of each kind, as they are sent: seeds.
pub fn sent_messages() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |body: Vec<u8>| [(body.len() as u32).to_le_bytes().as_slice(), &body].concat();
    let hash = Hash::of(b"seed");
    let hello = Hello { chain: hash, group: hash, job: deepmarket_types::JobId(7), world: 3, from: 0, to: 2 };
    vec![
        ("request", framed(encode(&Request { hash, limit: 1 << 20, from: 16 * 1024 }))),
        ("found", framed(encode(&Answer::Found(123_456)))),
        ("too-large", framed(encode(&Answer::TooLarge(1 << 40)))),
        ("hello", framed(encode(&hello))),
        ("welcome", framed(encode(&Welcome::NotYet))),
    ]
}

/// What a provider of a blob sends after its answer, from a byte on.
pub fn sent_blob(blob: &[u8], from: u64) -> io::Result<Vec<u8>> {
    let tree = BaoTree::new(blob.len() as u64, GROUP);
    let mut hashes = PreOrderMemOutboard { root: [0; 32].into(), tree, data: vec![0; tree.outboard_size() as usize] };
    hashes.root = outboard(blob, tree, &mut hashes)?;
    let mut sent = Vec::new();
    encode_ranges_validated(blob, &hashes, &chunks_from(from), &mut sent).map_err(io::Error::other)?;
    Ok(sent)
}

/// What is believed of a blob that a provider says to have so many bytes; `have` is there already.
pub fn received_blob(stream: &[u8], hash: &Hash, bytes: u64, have: Vec<u8>) -> (Vec<u8>, Result<(), BlobFault>) {
    let (done, _so_far) = watch::channel(0);
    let mut blob = have;
    let result = receive_groups(stream, blake3::Hash::from_bytes(hash.0), bytes, &mut blob, &done);
    (blob, result)
}

/// The addresses that would be dialled.
pub fn dialled(peer: &PeerAddress) -> Result<Vec<String>, NetError> {
    Ok(peer.parse()?.1.iter().map(ToString::to_string).collect())
}
