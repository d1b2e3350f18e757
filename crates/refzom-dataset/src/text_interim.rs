//! Interim stand-ins until src/text lands; not for use.
#![allow(missing_docs, missing_debug_implementations)]
use crate::DataError;
#[derive(Clone, Debug)]
pub struct ExpressionTokenizer {
    max_len: usize,
}
#[derive(Clone, Debug)]
pub struct Encoded {
    pub ids: Vec<u32>,
    pub attention: Vec<u8>,
    pub offsets: Vec<(usize, usize)>,
    pub truncated: bool,
}
#[derive(Clone, Debug)]
pub struct PhraseEraser;
impl ExpressionTokenizer {
    pub fn bert_base_uncased(max_len: usize) -> Result<Self, DataError> {
        Ok(Self { max_len })
    }
    pub fn encode(&self, text: &str) -> Result<Encoded, DataError> {
        let mut ids: Vec<u32> = text.bytes().map(u32::from).take(self.max_len).collect();
        let n = ids.len();
        ids.resize(self.max_len, 0);
        let mut attention = vec![1; n];
        attention.resize(self.max_len, 0);
        Ok(Encoded { offsets: vec![(0, 0); self.max_len], truncated: false, ids, attention })
    }
}
impl PhraseEraser {
    pub fn erase(&self, _: &str, encoded: &Encoded, rng: &mut impl rand::Rng) -> Vec<u32> {
        let mut ids = encoded.ids.clone();
        let i = rng.random_range(0..ids.len());
        ids[i] = 0;
        ids
    }
}
