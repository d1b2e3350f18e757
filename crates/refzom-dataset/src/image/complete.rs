//! Is a PNG or JPEG file all there? Decoders return half a picture from half a file; these walks do not.

const CUT: &str = "the file is cut short; fetch it again, or save it again as PNG or JPEG";

/// Walks the chunks of a PNG up to `IEND`.
pub(super) fn check_png(bytes: &[u8]) -> Result<(), &'static str> {
    let mut at = 8;
    loop {
        let head = bytes.get(at..at + 8).ok_or(CUT)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at.saturating_add(12).saturating_add(length);
        if end > bytes.len() {
            return Err(CUT);
        }
        if &head[4..] == b"IEND" {
            return Ok(());
        }
        at = end;
    }
}

/// What a JPEG file consists of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct JpegLayout {
    /// Junk between segments, which strict decoders refuse and cameras write.
    pub(super) junk: Vec<std::ops::Range<usize>>,
    /// Place of the end-of-image marker.
    pub(super) end: usize,
    /// Whether the picture comes in one pass from top to bottom.
    pub(super) sequential: bool,
    /// Whether components of several samplings come one after the other, each from top to bottom.
    pub(super) scattered: bool,
    /// Whether a component is sampled finer than the first one.
    pub(super) finer: bool,
}

/// Walks the segments and scans of a JPEG up to the end-of-image marker.
pub(super) fn check_jpeg(bytes: &[u8]) -> Result<JpegLayout, &'static str> {
    let mut layout = JpegLayout::default();
    let (mut at, mut scans, mut baseline, mut mixed) = (2, 0, false, false);
    let (mut announced, mut scanned) = (0, 0);
    loop {
        let start = at;
        // A marker is 0xff followed by neither 0x00 nor another 0xff.
        let marker = loop {
            let here =
                at + bytes.get(at..).ok_or(CUT)?.iter().position(|&b| b == 0xff).ok_or(CUT)?;
            match *bytes.get(here + 1).ok_or(CUT)? {
                0xff => at = here + 1,
                0x00 => at = here + 2,
                marker => {
                    at = here + 2;
                    break marker;
                }
            }
        };
        if scans == 0 && at - 2 > start {
            layout.junk.push(start..at - 2);
        }
        match marker {
            0xd9 if scans == 0 => return Err("the file holds no picture; fetch it again"),
            // Every component of a picture without refinement has its place in some scan.
            0xd9 if baseline && scanned < announced => return Err(CUT),
            0xd9 => {
                layout.end = at - 2;
                layout.sequential = baseline && scans == 1;
                layout.scattered = baseline && scans > 1 && mixed;
                return Ok(layout);
            }
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let head = bytes.get(at..at + 2).ok_or(CUT)?;
                let length = usize::from(u16::from_be_bytes([head[0], head[1]])).max(2);
                let body = bytes.get(at + 2..at + length).ok_or(CUT)?;
                at += length;
                // Behind precision, height, width and their number, three bytes for each component.
                if let (0xc0..=0xc2, Some((_, parts))) = (marker, body.split_at_checked(6)) {
                    let parts = parts.as_chunks::<3>().0;
                    let first = parts.first().map_or(0x11, |part| part[1]);
                    let finer = |of: u8| of >> 4 > first >> 4 || of & 15 > first & 15;
                    layout.finer = parts.iter().any(|part| finer(part[1]));
                    mixed = parts.iter().any(|part| part[1] != first);
                    announced = parts.len();
                }
                // Coded data follow; the search for the next marker steps over their 0xff00.
                if marker == 0xda {
                    scans += 1;
                    scanned += body.first().map_or(0, |&count| usize::from(count));
                }
                baseline |= marker == 0xc0 || marker == 0xc1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ends_are_found_behind_stuffed_bytes_and_restarts() {
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04\xff\xd9\xff\xda\x00\x02a\xff\x00\xff\xd0b\xff\xd9";
        let layout = check_jpeg(jpeg).unwrap();
        assert_eq!((layout.end, layout.junk.len()), (jpeg.len() - 2, 0));
        for end in 2..jpeg.len() {
            assert!(check_jpeg(&jpeg[..end]).is_err(), "cut at {end}");
        }
        let junk = b"\xff\xd8\xff\xe0\x00\x02abcd\xff\xda\x00\x02a\xff\xd9";
        assert_eq!(check_jpeg(junk).unwrap().junk, vec![6..10]);
    }
}
