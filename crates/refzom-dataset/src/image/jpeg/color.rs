//! YCbCr to RGB as libjpeg (`jdcolor.c`): 16-bit fixed-point factors, one rounding.

/// Pixels of a step: their 48 bytes are three registers.
const STEP: usize = 16;

const R_CR: i32 = 91881; // 1.40200
const B_CB: i32 = 116130; // 1.77200
const G_CR: i32 = -46802; // -0.71414
const G_CB: i32 = -22554; // -0.34414
const HALF: i32 = 1 << 15;

/// Appends the pixels of three rows of one length.
#[inline(always)]
pub(super) fn append(luma: &[u8], cb: &[u8], cr: &[u8], rgb: &mut Vec<u8>) {
    let (lumas, luma_rest) = luma.as_chunks::<STEP>();
    let (cbs, cb_rest) = cb.as_chunks::<STEP>();
    let (crs, cr_rest) = cr.as_chunks::<STEP>();
    for ((y, cb), cr) in lumas.iter().zip(cbs).zip(crs) {
        let (mut r, mut g, mut b) = ([0u8; STEP], [0u8; STEP], [0u8; STEP]);
        for i in 0..STEP {
            [r[i], g[i], b[i]] = pixel(y[i], cb[i], cr[i]);
        }
        let mut out = [0u8; 3 * STEP];
        for i in 0..STEP {
            out[i * 3] = r[i];
            out[i * 3 + 1] = g[i];
            out[i * 3 + 2] = b[i];
        }
        rgb.extend_from_slice(&out);
    }
    for ((&y, &cb), &cr) in luma_rest.iter().zip(cb_rest).zip(cr_rest) {
        rgb.extend(pixel(y, cb, cr));
    }
}

#[inline(always)]
fn pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let byte = |v: i32| v.clamp(0, 255) as u8;
    [
        byte(y + ((cr * R_CR + HALF) >> 16)),
        byte(y + ((cb * G_CB + cr * G_CR + HALF) >> 16)),
        byte(y + ((cb * B_CB + HALF) >> 16)),
    ]
}
