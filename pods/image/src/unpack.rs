//! Layers as they come: plain, gzip or zstd, told apart by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const PIECE: usize = 128 << 10;

/// The bytes inside.
pub(crate) fn reader<'a>(packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(PIECE, packed);
    let start = packed.fill_buf()?;
    let what: &[u8] = &start[..start.len().min(6)];
    match what {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(packed))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Box::new(Zstd::new(packed)?)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [b'B', b'Z', b'h', ..] => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "it is compressed by xz or bzip2; tar, gzip and zstd are known here",
        )),
        _ => Ok(Box::new(packed)),
    }
}

/// A frame without content. With it a decoder has a state, and only one that has a state compares a frame's window with
/// the largest that it takes (100 MiB): so the first frame of a layer is never a decoder's first.
const NOTHING: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0];

/// One frame after the other: ruzstd's own reader ends with the first.
struct Zstd<R> {
    packed: R,
    decoder: FrameDecoder,
    is_within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(packed: R) -> io::Result<Self> {
        let mut decoder = FrameDecoder::new();
        decoder.init(&NOTHING[..]).map_err(damaged)?;
        Ok(Self {
            packed,
            decoder,
            is_within: false,
        })
    }

    /// Goes to the next frame; `false` at the end.
    fn start(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => {
                    self.is_within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(
                        &mut self.packed.by_ref().take(length.into()),
                        &mut io::sink(),
                    )?;
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.is_within || self.start()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(buffer.len().min(PIECE));
                self.decoder
                    .decode_blocks(&mut self.packed, strategy)
                    .map_err(damaged)?;
            }
            let len = self.decoder.read(buffer)?;
            if len > 0 {
                return Ok(len);
            }
            self.is_within = false;
        }
        Ok(0)
    }
}

fn damaged(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn several_frames_are_one_stream() {
        let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        for pack in [zstd, gzip] {
            let (first, second) = bytes.split_at(700_000);
            assert!(unpacked(&[pack(first), pack(second)].concat()).unwrap() == bytes);
        }
    }

    #[test]
    fn a_frame_to_skip_is_skipped() {
        let skip = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let packed = [zstd(b"a"), skip, zstd(b"b")].concat();
        assert_eq!(unpacked(&packed).unwrap(), b"ab");
    }

    #[test]
    fn a_window_beyond_all_measure_is_refused() {
        // A window of 2^41 bytes, in the first frame.
        let packed = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0];
        assert!(unpacked(&packed).is_err());
    }

    #[test]
    fn what_ends_early_is_an_error() {
        for pack in [zstd, gzip] {
            let packed = pack(&[7; 100_000]);
            assert!(unpacked(&packed[..packed.len() - 5]).is_err());
        }
    }

    #[test]
    fn other_compressions_are_named() {
        assert!(
            unpacked(b"\xfd7zXZ\0")
                .unwrap_err()
                .to_string()
                .contains("xz")
        );
    }
}
