//! TensorBoard's event files: records (TensorFlow's TFRecord framing, `core/lib/io/record_writer.h`) of `Event` messages
//! (`core/util/event.proto`, `core/framework/summary.proto`) with one number each. Encoded by hand: it is four kinds of fields.
//!
//! ```text
//! record   length u64 LE ‖ masked CRC of these 8 bytes u32 LE ‖ message ‖ masked CRC of the message u32 LE
//! Event    1: wall_time double   2: step int64   3: file_version string (of the first)   5: summary
//! Summary  1: value, of: 1: tag string   2: simple_value float
//! ```

use deepmarket_types::{JobId, TimeMs};

use crate::verbs::job::record::Record;

/// What the first record says of the file.
const VERSION: &str = "brain.Event:2";

/// A file's name. TensorBoard looks for `tfevents` in it. The same for the same job, so that a second fetch replaces the first.
pub fn file_name(job: JobId, began: TimeMs) -> String {
    format!("events.out.tfevents.{:010}.{job}", began.0 / 1000)
}

/// A job's metrics as an event file.
///
/// By round: the training loss, samples a second, and the seconds that all workers together have spent computing, exchanging and
/// waiting. By epoch, counted from 1: loss and accuracy on the validation split, the mean training loss, samples trained.
pub fn events(record: &Record, began: TimeMs) -> Vec<u8> {
    let mut scalars: Vec<Scalar> = Vec::new();
    let mut phases: std::collections::BTreeMap<u32, [u64; 3]> = Default::default();
    let mut points = record.points();
    points.retain(|point| !point.replaced);
    points.sort_by_key(|point| point.time);
    for point in &points {
        let mut add = |tag, value| scalars.push(Scalar { time: point.time, step: point.round, tag, value });
        add("train/loss", point.loss);
        if let Some(speed) = point.samples_per_s {
            add("train/samples_per_second", speed);
        }
        phases.insert(point.rank, [point.compute_ms, point.exchange_ms, point.wait_ms]);
        for (index, tag) in ["seconds/computing", "seconds/exchanging", "seconds/waiting"].into_iter().enumerate() {
            add(tag, phases.values().map(|ms| ms[index]).sum::<u64>() as f64 / 1000.0);
        }
    }
    for epoch in record.epochs() {
        let mut add = |tag, value| scalars.push(Scalar { time: epoch.time, step: epoch.epoch + 1, tag, value });
        add("validation/loss", epoch.loss);
        epoch.accuracy.into_iter().for_each(|accuracy| add("validation/accuracy", accuracy));
        epoch.training_loss.into_iter().for_each(|loss| add("train/loss_of_epoch", loss));
        add("train/samples_of_epoch", epoch.trained as f64);
    }
    scalars.sort_by_key(|scalar| (scalar.time, scalar.step));
    let mut file = record_of(&version_event(began));
    scalars.iter().for_each(|scalar| file.extend(record_of(&scalar.event())));
    file
}

/// One number.
struct Scalar {
    time: TimeMs,
    step: u64,
    tag: &'static str,
    value: f64,
}

impl Scalar {
    fn event(&self) -> Vec<u8> {
        let mut value = bytes_field(1, self.tag.as_bytes());
        value.push(key(2, 5));
        value.extend((self.value as f32).to_le_bytes());
        let summary = bytes_field(1, &value);
        let mut event = wall_time(self.time);
        event.push(key(2, 0));
        event.extend(varint(self.step));
        event.extend(bytes_field(5, &summary));
        event
    }
}

fn version_event(began: TimeMs) -> Vec<u8> {
    let mut event = wall_time(began);
    event.extend(bytes_field(3, VERSION.as_bytes()));
    event
}

/// Seconds since 1970, as a double in field 1.
fn wall_time(time: TimeMs) -> Vec<u8> {
    let mut field = vec![key(1, 1)];
    field.extend((time.0 as f64 / 1000.0).to_le_bytes());
    field
}

/// A field's key: its number, and how its value is written (0: varint, 1: 8 bytes, 2: length and bytes, 5: 4 bytes).
const fn key(number: u8, written: u8) -> u8 {
    number << 3 | written
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![key(number, 2)];
    field.extend(varint(bytes.len() as u64));
    field.extend(bytes);
    field
}

/// Seven bits a byte, the lowest first; all but the last with their highest bit set.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn record_of(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(message);
    record.extend(masked(crc32c(message)).to_le_bytes());
    record
}

/// TensorFlow stores checksums turned and shifted (`core/lib/hash/crc32c.h`), so that data that holds checksums can be checked too.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::job::record::testing::{epoch, report, round, trained};

    /// Takes the next `count` bytes.
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }

    fn read_varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// The messages of a file, whose checksums must be right.
    fn messages(mut file: &[u8]) -> Vec<&[u8]> {
        let mut messages = Vec::new();
        while !file.is_empty() {
            let length = take(&mut file, 8);
            assert_eq!(take(&mut file, 4), masked(crc32c(length)).to_le_bytes());
            let message = take(&mut file, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            assert_eq!(take(&mut file, 4), masked(crc32c(message)).to_le_bytes());
            messages.push(message);
        }
        messages
    }

    /// Fields as numbers and bytes; varints in eight bytes.
    fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut fields = Vec::new();
        while !message.is_empty() {
            let key = take(&mut message, 1)[0];
            let bytes = match key & 7 {
                0 => read_varint(&mut message).to_le_bytes().to_vec(),
                1 => take(&mut message, 8).to_vec(),
                2 => {
                    let length = read_varint(&mut message) as usize;
                    take(&mut message, length).to_vec()
                }
                5 => take(&mut message, 4).to_vec(),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, bytes));
        }
        fields
    }

    /// Time, step, tag and value of an event with a number.
    fn scalar(message: &[u8]) -> (f64, u64, String, f32) {
        let [(1, time), (2, step), (5, summary)] = &fields(message)[..] else { panic!("not a scalar") };
        let [(1, value)] = &fields(summary)[..] else { panic!("not one value") };
        let [(1, tag), (2, number)] = &fields(value)[..] else { panic!("not a tag and a number") };
        (
            f64::from_le_bytes(time[..].try_into().unwrap()),
            u64::from_le_bytes(step[..].try_into().unwrap()),
            String::from_utf8(tag.clone()).unwrap(),
            f32::from_le_bytes(number[..].try_into().unwrap()),
        )
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4; the last is the usual check value of CRC-32C.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_are_written_as_protobuf_says() {
        assert_eq!(varint(1), [1]);
        assert_eq!(varint(150), [0x96, 1]);
        assert_eq!(read_varint(&mut varint(u64::MAX).as_slice()), u64::MAX);
    }

    #[test]
    fn every_number_of_a_job_is_read_back_from_its_event_file() {
        let record = Record::of([
            report(10, 0, 1, round(5, 2.5)),
            report(11, 1, 1, round(5, 1.5)),
            report(14, 0, 2, round(9, 0.5)),
            report(14, 0, 3, trained(1, 0..10, &[0, 1])),
            report(20, 0, 4, epoch(0, 40, 0.25)),
        ]);
        let began = TimeMs(9_000);
        let file = events(&record, began);
        let messages = messages(&file);
        let [(1, time), (3, version)] = &fields(messages[0])[..] else { panic!("not a version") };
        assert_eq!((f64::from_le_bytes(time[..].try_into().unwrap()), version.as_slice()), (9.0, VERSION.as_bytes()));
        let scalars: Vec<_> = messages[1..].iter().map(|message| scalar(message)).collect();
        let of = |wanted: &str| -> Vec<(f64, u64, f32)> {
            scalars.iter().filter(|(_, _, tag, _)| tag == wanted).map(|(time, step, _, value)| (*time, *step, *value)).collect()
        };
        assert_eq!(of("train/loss"), [(10.0, 5, 2.5), (11.0, 5, 1.5), (14.0, 9, 0.5)]);
        assert_eq!(of("train/samples_per_second"), [(14.0, 9, 20.0)]);
        assert_eq!(of("seconds/computing"), [(10.0, 5, 0.5), (11.0, 5, 1.0), (14.0, 9, 1.4)]);
        assert_eq!(of("validation/accuracy"), [(20.0, 1, 0.8)]);
        assert_eq!(of("validation/loss"), [(20.0, 1, 0.25)]);
        assert_eq!(of("train/loss_of_epoch"), [(20.0, 1, 1.5)]);
        assert_eq!(of("train/samples_of_epoch"), [(20.0, 1, 200.0)]);
        assert_eq!(file_name(JobId(7), began), "events.out.tfevents.0000000009.job-7");
    }
}
