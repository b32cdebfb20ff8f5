//! Streams that may be compressed, told by how they begin.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: u32 = 0xfd2f_b528;
/// Frames of data for others, which decoders skip: 16 numbers from this one on.
const SKIPPABLE: u32 = 0x184d_2a50;
/// The longest header of a frame, in bytes (RFC 8878, 3.1.1).
const HEADER: usize = 18;
/// What a frame may make the decoder keep in memory, in bytes; `zstd --ultra` asks for as much.
const MAX_WINDOW: u64 = 128 << 20;

/// The content of a stream, whatever it is compressed with.
pub(super) fn plain<'a, R: Read + 'a>(inner: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = Peeked::new(inner);
    let head = source.peek(4)?;
    let is_zstd = magic(head).is_some_and(|magic| magic == ZSTD || magic & !0xf == SKIPPABLE);
    Ok(match (head.starts_with(GZIP), is_zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(source)),
        (false, true) => Box::new(Frames::new(source)),
        (false, false) => Box::new(source),
    })
}

fn magic(head: &[u8]) -> Option<u32> {
    let bytes = head.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// A reader of which the next bytes can be looked at.
struct Peeked<R> {
    seen: Vec<u8>,
    taken: usize,
    inner: R,
}

impl<R: Read> Peeked<R> {
    fn new(inner: R) -> Self {
        Self {
            seen: Vec::new(),
            taken: 0,
            inner,
        }
    }

    /// The next bytes, fewer at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        self.seen.drain(..self.taken);
        self.taken = 0;
        let missing = count.saturating_sub(self.seen.len());
        let inner = self.inner.by_ref();
        inner.take(missing as u64).read_to_end(&mut self.seen)?;
        Ok(&self.seen)
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.seen.get(self.taken..).unwrap_or(&[]);
        if rest.is_empty() {
            return self.inner.read(buffer);
        }
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

/// Zstandard frames, one after the other.
struct Frames<R: Read> {
    state: State<R>,
}

enum State<R: Read> {
    Between(Peeked<R>),
    Within(Box<StreamingDecoder<Peeked<R>, FrameDecoder>>),
    End,
}

impl<R: Read> Frames<R> {
    fn new(source: Peeked<R>) -> Self {
        Self {
            state: State::Between(source),
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.state = match std::mem::replace(&mut self.state, State::End) {
                State::End => return Ok(0),
                State::Between(source) => next(source)?,
                State::Within(mut frame) => {
                    let count = frame.read(buffer)?;
                    if count != 0 {
                        self.state = State::Within(frame);
                        return Ok(count);
                    }
                    State::Between(frame.into_inner())
                }
            };
        }
    }
}

fn next<R: Read>(mut source: Peeked<R>) -> io::Result<State<R>> {
    let head = source.peek(HEADER)?;
    if head.is_empty() {
        return Ok(State::End);
    }
    let size = head.get(4..8).and_then(magic);
    match (magic(head), size) {
        (Some(ZSTD), _) => {}
        (Some(other), Some(size)) if other & !0xf == SKIPPABLE => {
            let whole = u64::from(size) + 8;
            let skipped = io::copy(&mut source.by_ref().take(whole), &mut io::sink())?;
            if skipped < whole {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(State::Between(source));
        }
        _ => return Err(invalid("not a zstd frame")),
    }
    if window(head).is_none_or(|window| window > MAX_WINDOW) {
        return Err(invalid(
            "a zstd frame that needs more than 128 MiB of memory",
        ));
    }
    let decoder = StreamingDecoder::new(source).map_err(io::Error::other)?;
    Ok(State::Within(Box::new(decoder)))
}

/// How much of its output a frame refers back to: RFC 8878, 3.1.1.1.
fn window(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let byte = u64::from(*head.get(5)?);
        let base = 1_u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * (byte & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = head.get(5 + dictionary..)?;
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = content.get(..size)?;
    let mut number = [0; 8];
    number[..size].copy_from_slice(bytes);
    let number = u64::from_le_bytes(number);
    Some(if size == 2 { number + 256 } else { number })
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        plain(bytes)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(content, level)
    }

    #[test]
    fn told_by_how_they_begin() {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let table: [(Vec<u8>, &[u8]); 8] = [
            (b"".to_vec(), b""),
            (b"x".to_vec(), b"x"),
            (b"plain".to_vec(), b"plain"),
            (gzip(b"one"), b"one"),
            ([gzip(b"one"), gzip(b"two")].concat(), b"onetwo"),
            (zstd(b"one"), b"one"),
            (
                [zstd(b"one"), skipped.clone(), zstd(b"two")].concat(),
                b"onetwo",
            ),
            ([skipped, zstd(b"one")].concat(), b"one"),
        ];
        for (bytes, expected) in table {
            assert_eq!(read(&bytes).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn damaged_or_greedy() {
        let whole = zstd(&[7; 1000]);
        let greedy = [&ZSTD.to_le_bytes()[..], &[0x00, 0xff], &[0; 12]].concat();
        let table = [
            gzip(b"one")[..12].to_vec(),
            whole[..whole.len() - 1].to_vec(),
            [zstd(b"one"), b"junk".to_vec()].concat(),
            vec![0x5a, 0x2a, 0x4d, 0x18, 255, 255, 255, 255],
            greedy,
        ];
        for bytes in table {
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
    }
}
