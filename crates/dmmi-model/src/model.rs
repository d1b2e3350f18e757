//! The whole model: two encoders, the fusion between them, two decoders.

use backbones::{BertEncoder, StageInfo};
use candle_core::{DType, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{Align, DecoderLayerConfig, Mode, Probe, resize_bilinear};

use crate::config::DmmiConfig;
use crate::encoder::{Encoded, FusedEncoder};
use crate::image_to_text::ImageToTextDecoder;
use crate::part::Part;
use crate::semantics::{CrossLayerPooling, ExpressionVector};
use crate::text_to_image::TextToImageDecoder;

/// One batch of pictures and expressions.
#[derive(Clone, Debug)]
pub struct DmmiInput {
    /// Normalised images `(B, 3, H, W)`.
    pub images: Tensor,
    /// WordPiece ids `(B, L)`, padded.
    pub ids: Tensor,
    /// The same with one phrase hidden; without it there is no reconstruction.
    pub erased_ids: Option<Tensor>,
    /// `(B, L)`, 1 on real tokens.
    pub attention: Tensor,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct DmmiOutput {
    /// Background and foreground, `(B, 2, H, W)`.
    pub logits: Tensor,
    /// The same at stride 4, `(B, 2, h, w)`.
    pub logits_low: Tensor,
    /// Words after the last fusion (`E4`), `(B, L, D)`.
    pub words: Tensor,
    /// Words recovered from the picture, `(B, L, D)`; none without the branch or an erased expression.
    pub reconstructed: Option<Tensor>,
    /// The picture and the expression as one vector each, for the contrastive loss.
    pub contrast: Option<Contrast>,
    /// The attention mask of the input, `(B, L)`.
    pub attention: Tensor,
}

/// What the contrastive loss compares.
#[derive(Clone, Debug)]
pub struct Contrast {
    /// The picture as one vector, `(B, D)`, not normalised.
    pub visual: Tensor,
    /// The expression as one vector, `(B, D)`, not normalised.
    pub aligned: Tensor,
}

/// DMMI (Hu et al., ICCV 2023).
pub struct Dmmi {
    text: BertEncoder,
    encoder: FusedEncoder,
    decoder: TextToImageDecoder,
    reconstruction: Option<ImageToTextDecoder>,
    contrast: Option<(CrossLayerPooling, ExpressionVector)>,
    compute: DType,
}

impl Dmmi {
    /// Keys `bert_model.*` and `model.{backbone,classifier,contrastive}.*`.
    ///
    /// # Errors
    /// When the sizes are impossible, or (loading) a key is absent or has another shape.
    pub fn new(cfg: &DmmiConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("model configuration: {why}");
        }
        let dim = cfg.text.hidden_size;
        let layer = DecoderLayerConfig {
            dim,
            heads: cfg.decoder.num_heads,
            feed_forward: cfg.decoder.feed_forward,
            dropout: cfg.decoder.dropout,
        };
        let model = vb.pp("model");
        let classifier = model.pp("classifier");
        let encoder = FusedEncoder::new(cfg, model.pp("backbone"))?;
        let channels = encoder.channels();
        let words = cfg.decoder.words;
        let reconstruction = || ImageToTextDecoder::new(&layer, classifier.pp("lan_func"));
        let contrast = || {
            let expression = ExpressionVector::new(dim, model.pp("contrastive"))?;
            Ok::<_, candle_core::Error>((
                CrossLayerPooling::new(dim, classifier.clone())?,
                expression,
            ))
        };
        Ok(Self {
            text: BertEncoder::new(&cfg.text, vb.pp("bert_model"))?,
            decoder: TextToImageDecoder::new(&channels, &layer, words, classifier.clone())?,
            encoder,
            reconstruction: cfg.reconstruction.is_on().then(reconstruction).transpose()?,
            contrast: cfg.contrast.is_on().then(contrast).transpose()?,
            compute: vb.dtype(),
        })
    }

    /// The same network with activations in `dtype` (mixed precision): parameters stay as they are and are cast where they
    /// are multiplied; norms, softmax and losses compute in f32 at least; logits come out in f32 at least.
    pub fn compute_in(mut self, dtype: DType) -> Self {
        self.text.compute_in(dtype);
        self.compute = dtype;
        self
    }

    /// The same network with activation checkpointing in training, of the backbone's blocks, the fusion's attention and
    /// the decoder's convolutions: less memory, more time, the same numbers. Differentiate its loss by [`nn_ops::Gradients::of`].
    pub fn checkpointing(mut self, on: bool) -> Self {
        self.encoder.checkpointing(on);
        self.decoder.checkpointing(on);
        self
    }

    /// Channels and strides of the visual encoder's four stages.
    pub fn stages(&self) -> &[StageInfo] {
        self.encoder.stages()
    }

    /// The visual encoder without fusion: images `(B, 3, H, W)` to the maps `(B, C_n, h_n, w_n)` of its four stages. For
    /// training it on pictures alone.
    ///
    /// # Errors
    /// When images are not of three channels.
    pub fn encode_pictures(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        self.encoder.forward_without_text(&images.to_dtype(self.compute)?, mode)
    }

    /// A full pass, as training needs it.
    pub fn forward(&self, input: &DmmiInput, mode: Mode) -> Result<DmmiOutput> {
        self.forward_probed(input, mode, &mut Probe::off())
    }

    /// A full pass that records named intermediate results.
    pub fn forward_probed(
        &self,
        input: &DmmiInput,
        mode: Mode,
        probe: &mut Probe,
    ) -> Result<DmmiOutput> {
        let (b, _, h, w) = input.images.dims4()?;
        if input.ids.dims2()?.0 != b {
            bail!("{b} images but ids {:?}", input.ids.dims());
        }
        let words = self.text.forward_t(&input.ids, &input.attention, mode)?;
        probe.record("bert.ids", &words);
        probe.mark(Part::Text);
        let mask = input.attention.to_dtype(words.dtype())?;
        let images = input.images.to_dtype(self.compute)?;
        let encoded = self.encoder.forward_t(&images, &words, &mask, mode, probe)?;
        let decoded = probe.scoped("dec", |p| self.decoder.forward_t(&encoded, mode, p))?;
        probe.mark(Part::TextToImage);
        let contrast = match &self.contrast {
            Some((pooling, expression)) => Some(Contrast {
                visual: probe.scoped("dec", |p| pooling.forward(&decoded.maps, p))?,
                aligned: expression.forward(&wide(&encoded.words)?)?,
            }),
            None => None,
        };
        probe.mark(Part::Contrast);
        let reconstructed = match (&self.reconstruction, &input.erased_ids) {
            (Some(decoder), Some(ids)) => {
                let erased = self.text.forward_t(ids, &input.attention, mode)?;
                probe.record("bert.masked_ids", &erased);
                probe.mark(Part::Text);
                let words = decoder.forward_t(&erased, &decoded.maps[1], mode)?;
                probe.record("dec.new_lan", &words);
                probe.mark(Part::ImageToText);
                Some(words)
            }
            _ => None,
        };
        let logits_low = wide(&decoded.logits)?;
        let logits = resize_bilinear(&logits_low, (h, w), Align::Corners)?;
        probe.record("logits_low", &logits_low);
        probe.record("logits", &logits);
        probe.mark(Part::TextToImage);
        Ok(DmmiOutput {
            logits,
            logits_low,
            words: encoded.words,
            reconstructed,
            contrast,
            attention: input.attention.clone(),
        })
    }

    /// Evaluation: `(B, 3, H, W)`, `(B, L)`, `(B, L)` to logits `(B, 2, H, W)`. Nothing that only losses need is computed.
    pub fn segment(&self, images: &Tensor, ids: &Tensor, attention: &Tensor) -> Result<Tensor> {
        self.segment_probed(images, ids, attention, &mut Probe::off())
    }

    /// Several sentences about one image: `(1, 3, H, W)`, `(S, L)`, `(S, L)` to logits `(S, 2, H, W)`, as
    /// [`segment`](Self::segment) gives one by one, to rounding. What does not depend on the sentence is computed once; the
    /// decoder, whose maps are large, takes the sentences one after the other.
    pub fn segment_sentences(
        &self,
        image: &Tensor,
        ids: &Tensor,
        attention: &Tensor,
    ) -> Result<Tensor> {
        let (b, _, h, w) = image.dims4()?;
        let (sentences, _) = ids.dims2()?;
        if b != 1 || sentences == 0 {
            bail!("one image and its sentences, not {b} images and ids {:?}", ids.dims());
        }
        let words = self.text.forward_t(ids, attention, Mode::Eval)?;
        let mask = attention.to_dtype(words.dtype())?;
        let mut probe = Probe::off();
        let image = image.to_dtype(self.compute)?;
        let encoded = self.encoder.forward_t(&image, &words, &mask, Mode::Eval, &mut probe)?;
        let one = |i: usize| {
            // Where the sentences share a map, it is there once.
            let cut = |tensor: &Tensor| match tensor.dim(0)? {
                1 => Ok(tensor.clone()),
                _ => tensor.narrow(0, i, 1)?.contiguous(),
            };
            let maps = encoded.maps.iter().map(cut).collect::<Result<_>>()?;
            let encoded = Encoded { maps, words: cut(&encoded.words)? };
            let logits = self.decoder.logits(encoded, &mut Probe::off())?;
            resize_bilinear(&wide(&logits)?, (h, w), Align::Corners)
        };
        Tensor::cat(&(0..sentences).map(one).collect::<Result<Vec<_>>>()?, 0)
    }

    /// The same as [`segment`](Self::segment) with a probe, which sees what is computed here only.
    pub fn segment_probed(
        &self,
        images: &Tensor,
        ids: &Tensor,
        attention: &Tensor,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let (b, _, h, w) = images.dims4()?;
        if ids.dims2()?.0 != b {
            bail!("{b} images but ids {:?}", ids.dims());
        }
        let words = self.text.forward_t(ids, attention, Mode::Eval)?;
        let mask = attention.to_dtype(words.dtype())?;
        probe.mark(Part::Text);
        let images = images.to_dtype(self.compute)?;
        let encoded = self.encoder.forward_t(&images, &words, &mask, Mode::Eval, probe)?;
        drop((images, words, mask));
        let logits = self.decoder.logits(encoded, probe)?;
        let logits = resize_bilinear(&wide(&logits)?, (h, w), Align::Corners)?;
        probe.mark(Part::TextToImage);
        Ok(logits)
    }
}

/// Half precision as f32; the others as they are.
fn wide(xs: &Tensor) -> Result<Tensor> {
    match xs.dtype() {
        DType::BF16 | DType::F16 => xs.to_dtype(DType::F32),
        _ => Ok(xs.clone()),
    }
}
