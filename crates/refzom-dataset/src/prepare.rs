//! One sample to numbers: decode, resize, normalise, draw the mask, tokenise, hide a phrase. No tensors here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::load_rgb;
use crate::sampler::sample_rng;
use crate::{
    DataError, Dataset, ExpressionTokenizer, ImageTransform, Orientation, PhraseEraser, RgbImage,
    Sample,
};

/// How samples become numbers.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// Size and normalisation of images.
    pub transform: ImageTransform,
    /// Expressions to word pieces.
    pub tokenizer: ExpressionTokenizer,
    /// Hides a phrase of the expression; `None`: nothing is hidden.
    pub eraser: Option<PhraseEraser>,
    /// Draw the hidden phrase once for the whole run, as the release does, instead of once an epoch.
    pub erase_once: bool,
    /// Seed of the drawing.
    pub seed: u64,
    /// Bytes of memory for resized images (3 a pixel), 0 for none. What does not fit is decoded again every time, and nothing is
    /// driven out: an epoch asks for every image in turn, so the least recently used one is the one that is needed next.
    pub cache_bytes: usize,
}

impl Preparation {
    /// Nothing is hidden, nothing is kept.
    pub fn new(transform: ImageTransform, tokenizer: ExpressionTokenizer) -> Self {
        Self { transform, tokenizer, eraser: None, erase_once: false, seed: 0, cache_bytes: 0 }
    }
}

/// The numbers of one sample.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The sample.
    pub sample: Arc<Sample>,
    /// Its place in the data set.
    pub index: usize,
    /// Height, width of image and mask.
    pub size: (usize, usize),
    /// `(3, H, W)`, normalised.
    pub image: Vec<f32>,
    /// `(H, W)`, 0 or 1: the union mask, resized to the nearest pixel.
    pub mask: Vec<u8>,
    /// `(L)` word pieces.
    pub ids: Vec<u32>,
    /// `(L)` word pieces with a phrase hidden.
    pub erased_ids: Option<Vec<u32>>,
    /// `(L)`, 1 on word pieces.
    pub attention: Vec<u8>,
}

/// A sample without picture and mask.
pub(crate) struct Words {
    pub(crate) sample: Arc<Sample>,
    pub(crate) index: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) erased_ids: Option<Vec<u32>>,
    pub(crate) attention: Vec<u8>,
}

/// Makes [`Prepared`] samples of a data set; shared by the threads of a loader.
#[derive(Debug)]
pub struct Preparer {
    samples: Vec<Arc<Sample>>,
    how: Preparation,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    bytes: usize,
    images: HashMap<PathBuf, Arc<RgbImage>>,
}

impl Preparer {
    /// For this data set.
    ///
    /// # Errors
    /// The transform's settings make no sense.
    pub fn new(dataset: &Dataset, how: Preparation) -> Result<Self, DataError> {
        how.transform.validate()?;
        let samples = dataset.samples().iter().cloned().map(Arc::new).collect();
        Ok(Self { samples, how, cache: Mutex::default() })
    }

    /// The samples, in the order of the data set.
    pub fn samples(&self) -> &[Arc<Sample>] {
        &self.samples
    }

    /// How samples become numbers.
    pub fn preparation(&self) -> &Preparation {
        &self.how
    }

    /// The numbers of sample `index` in `epoch`: the same for the same seed, whoever asks and in whichever order.
    ///
    /// # Errors
    /// There is no such sample, its expression holds no word, or its image cannot be decoded or has another size than announced.
    pub fn prepare(&self, index: usize, epoch: u64) -> Result<Prepared, DataError> {
        let (height, width) = self.size();
        let (mut image, mut mask) = (Vec::new(), Vec::new());
        let Words { sample, index, ids, erased_ids, attention } =
            self.prepare_onto(index, epoch, &mut image, &mut mask)?;
        let size = (height, width);
        Ok(Prepared { sample, index, size, image, mask, ids, erased_ids, attention })
    }

    /// Height, width of images and masks.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (height, width) = self.how.transform.size;
        (height as usize, width as usize)
    }

    /// As [`Self::prepare`], but picture and mask are appended: `3 * H * W` floats, `H * W` bytes.
    pub(crate) fn prepare_onto(
        &self,
        index: usize,
        epoch: u64,
        images: &mut Vec<f32>,
        masks: &mut Vec<u8>,
    ) -> Result<Words, DataError> {
        let sample = self.samples.get(index).ok_or_else(|| {
            DataError::Empty(format!("there is no sample {index}, only {}", self.samples.len()))
        })?;
        if self.how.cache_bytes > 0 {
            self.how.transform.normalize_onto(&*self.resized(sample)?, images);
        } else {
            self.how.transform.apply_onto(&picture_of(sample)?, images);
        }
        let (from, (height, width)) = (masks.len(), self.size());
        masks.resize(from + height * width, 0);
        if sample.kind.has_target() {
            sample.rle()?.paint_resized(&mut masks[from..], (height, width));
        }
        let encoded = self.how.tokenizer.encode(&sample.expression).map_err(|e| match e {
            DataError::Text(message) => DataError::Text(format!(
                "sentence {} of reference {}: {message}",
                sample.sentence_id, sample.ref_id
            )),
            other => other,
        })?;
        let erased_ids = self.how.eraser.as_ref().map(|eraser| {
            let epoch = if self.how.erase_once { 0 } else { epoch };
            let mut rng = sample_rng(self.how.seed, epoch, index as u64);
            eraser.erase(&sample.expression, &encoded, &mut rng)
        });
        Ok(Words {
            sample: Arc::clone(sample),
            index,
            ids: encoded.ids,
            erased_ids,
            attention: encoded.attention,
        })
    }

    /// From the cache, or made and kept there if there is room.
    fn resized(&self, sample: &Sample) -> Result<Arc<RgbImage>, DataError> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().images.get(&sample.image_path) {
            return Ok(Arc::clone(kept));
        }
        let resized = Arc::new(self.how.transform.resize(&picture_of(sample)?));
        let size = resized.as_raw().len();
        let mut cache = lock();
        if cache.bytes.saturating_add(size) <= self.how.cache_bytes
            && cache.images.insert(sample.image_path.clone(), Arc::clone(&resized)).is_none()
        {
            cache.bytes += size;
        }
        Ok(resized)
    }
}

fn picture_of(sample: &Sample) -> Result<RgbImage, DataError> {
    announced_picture(&sample.image_path, (sample.width, sample.height))
}

/// The picture as its annotations mean it: the pixels as stored, of the announced (width, height).
pub(crate) fn announced_picture(path: &Path, announced: (u32, u32)) -> Result<RgbImage, DataError> {
    let picture = load_rgb(path, Orientation::Ignore)?;
    if picture.dimensions() != announced {
        let (width, height) = picture.dimensions();
        return Err(DataError::image(
            path.display().to_string(),
            format!(
                "has {width} x {height} pixels but instances.json says {} x {}; is this the right image folder?",
                announced.0, announced.1
            ),
        ));
    }
    Ok(picture)
}
