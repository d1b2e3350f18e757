//! `dmmi-cli predict`: a picture and sentences to masks, an overlay and JSON.

pub(crate) mod engine;
mod found;
pub(crate) mod output;
mod texts;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use image::ExtendedColorType;
use refzom_dataset::{Orientation, RgbImage, decode_rgb};

use crate::device::{self, Arithmetic, DeviceChoice};
use crate::exit::{OrBadInput, bad_input};
use crate::file;
use crate::out::tell;
use crate::progress::bar;
use crate::viz::overlay::{Layer, Look, overlay};
use crate::viz::palette;
use engine::{Answer, Engine};
use output::{Document, Names, Prediction, RleJson, digest, mask_png, png};

/// Arguments of `predict`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli predict --checkpoint runs/quickstart --image photo.jpg --text \"the red cup\" --out found
  dmmi-cli predict --checkpoint runs/quickstart --image photo.jpg --text \"the cup\" --text \"two dogs\" --out found
  cat photo.jpg | dmmi-cli predict --checkpoint runs/quickstart --image - --text \"the cup\" --json -

Writes NAME_1_mask.png (0 and 255, one an expression), NAME_overlay.png (a colour an expression) and NAME.json
into --out, NAME being the picture's file name without its ending. Results of another picture are never replaced.
score: mean probability over the mask; where nothing is found, the highest probability anywhere.")]
pub(crate) struct PredictArgs {
    /// A checkpoint directory, a run directory (its best checkpoint), or the authors' .pth
    #[arg(long, value_name = "PATH")]
    pub(crate) checkpoint: PathBuf,
    /// A PNG or JPEG; - reads standard input. Turned as its EXIF orientation says
    #[arg(long, value_name = "FILE")]
    pub(crate) image: PathBuf,
    /// What to find, in English; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// A UTF-8 file with one expression a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) texts_from: Option<PathBuf>,
    /// Where masks, overlay and JSON go; made if missing. Needed unless --json is given
    #[arg(long, short, value_name = "DIR", required_unless_present = "json")]
    pub(crate) out: Option<PathBuf>,
    /// Write the JSON here too; - is standard output, and then nothing else is written there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Opacity of the overlay's colours, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.45, value_parser = parse_share)]
    pub(crate) opacity: f32,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Arithmetic; bf16 is less exact, and quicker on a GPU and on processors that multiply it
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Arithmetic,
}

const SCORE_IS: &str = "mean foreground probability over the mask; if nothing is found, the highest foreground probability anywhere";

/// Largest picture file: an uncompressed picture of the largest extent is not larger.
const MAX_FILE: u64 = 1 << 30;

/// Runs `predict`.
///
/// # Errors
/// Bad input: a picture, an expression, a checkpoint or an output place that cannot be used.
pub(crate) fn run(args: PredictArgs) -> Result<()> {
    if args.image == Path::new("-") && args.texts_from.as_deref() == Some(Path::new("-")) {
        return Err(bad_input!(
            "--image - and --texts-from - both read standard input; give one a file"
        ));
    }
    // Cheap checks first: a typing error must not cost the loading of a model.
    if let Some(json) = args.json.as_deref().filter(|path| *path != Path::new("-")) {
        file::check_place("--json", json, b'{')?;
    }
    let texts = texts::collect(&args.text, args.texts_from.as_deref())?;
    let device = args.device.open()?;
    let picture = Picture::load(&args.image)?;
    let engine = Engine::load(&args.checkpoint, &device, args.dtype)?;
    let names = args.out.as_deref().map(|dir| Names::of(dir, &args.image));
    let done =
        answer(&engine, &device::name(&device), &picture, &texts, names.as_ref(), args.opacity)?;
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    match &args.json {
        Some(_) if to_stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&done.json).context("cannot write to standard output")?;
        }
        Some(path) => file::save(path, &done.json)?,
        None => {}
    }
    tell(&done, to_stdout)
}

/// Answers `texts` about the picture at `image` into `dir`, as the command does, without a word.
///
/// # Errors
/// As [`run`].
pub(crate) fn answer_to(
    engine: &Engine,
    device: &str,
    image: &Path,
    texts: &[String],
    dir: &Path,
) -> Result<()> {
    let picture = Picture::load(image)?;
    let names = Names::of(dir, image);
    answer(engine, device, &picture, texts, Some(&names), Look::default().opacity).map(|_| ())
}

/// A decoded picture and what tells it from others.
struct Picture {
    path: String,
    digest: String,
    rgb: RgbImage,
}

impl Picture {
    fn load(path: &Path) -> Result<Self> {
        let bytes = read_picture(path)?;
        let shown = path.display().to_string();
        let name = if shown == "-" { "standard input" } else { &shown };
        let rgb = decode_rgb(&bytes, name, Orientation::Apply)?;
        Ok(Self { digest: digest(&bytes), path: shown, rgb })
    }
}

/// What a call made.
struct Done {
    document: Document,
    json: Vec<u8>,
    written: Vec<PathBuf>,
}

/// Claims the output places, answers all texts, writes all files.
fn answer(
    engine: &Engine,
    device: &str,
    picture: &Picture,
    texts: &[String],
    names: Option<&Names>,
    opacity: f32,
) -> Result<Done> {
    let earlier = match names {
        Some(names) => names.claim(&picture.digest, texts.len())?,
        None => 0,
    };
    let prepared = engine.prepare(&picture.rgb)?;
    let bar = bar(texts.len() as u64);
    bar.set_prefix("expressions");
    let answers = engine.answers(&prepared, texts, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let document = Document {
        image: picture.path.clone(),
        image_fnv1a: picture.digest.clone(),
        width: picture.rgb.width(),
        height: picture.rgb.height(),
        checkpoint: engine.path().display().to_string(),
        device: device.to_owned(),
        model_size: engine.model_size(),
        score_is: SCORE_IS,
        overlay: names.map(Names::overlay),
        predictions: predictions(texts, &answers, names),
    };
    let mut json = serde_json::to_vec_pretty(&document).context("cannot write JSON")?;
    json.push(b'\n');
    let written = match names {
        Some(names) => {
            let files = files(names, &picture.rgb, &answers, opacity, &json)?;
            let written = names.write(&files)?;
            names.remove_rest(texts.len(), earlier)?;
            written
        }
        None => Vec::new(),
    };
    Ok(Done { document, json, written })
}

fn read_picture(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        let path = path.display();
        return Err(bad_input!("image {path} is a folder; give one picture, a call each"));
    }
    let mut bytes = Vec::new();
    let (read, name) = if path == Path::new("-") {
        let read = std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes);
        (read, "standard input".to_owned())
    } else {
        let read = fs::File::open(path).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes));
        (read, path.display().to_string())
    };
    read.with_context(|| format!("cannot read image {name}")).or_bad_input()?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad_input!("image {name} is larger than 1 GB; scale it down first"));
    }
    Ok(bytes)
}

fn predictions(texts: &[String], answers: &[Answer], names: Option<&Names>) -> Vec<Prediction> {
    let one = |(index, (text, answer)): (usize, (&String, &Answer))| {
        let mask = &answer.found.mask;
        let rle = mask.to_rle();
        Prediction {
            expression: text.clone(),
            found: rle.area() > 0,
            score: answer.found.score,
            bounding_box: mask.bounding_box().map(|b| [b.x, b.y, b.width, b.height]),
            area: rle.area(),
            rle: RleJson { size: [mask.height(), mask.width()], counts: rle.to_compressed() },
            milliseconds: (answer.milliseconds * 100.0).round() / 100.0,
            colour: palette::hex(palette::series(index)),
            mask: names.map(|names| names.mask(index + 1)),
            notices: answer.notices.clone(),
        }
    };
    texts.iter().zip(answers).enumerate().map(one).collect()
}

/// Names and bytes of all files, the JSON last: when it is there, all it names are there.
fn files(
    names: &Names,
    picture: &RgbImage,
    answers: &[Answer],
    opacity: f32,
    json: &[u8],
) -> Result<Vec<(String, Vec<u8>)>> {
    let (width, height) = picture.dimensions();
    let mut files = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let bits = answer.found.mask.bits();
        files.push((names.mask(index + 1), mask_png(bits, width, height)?));
    }
    let layers: Vec<Layer<'_>> = answers
        .iter()
        .enumerate()
        .map(|(i, answer)| Layer { mask: answer.found.mask.bits(), colour: palette::series(i) })
        .collect();
    let drawn = overlay(picture, &layers, Look { opacity, outline: None })?;
    files.push((names.overlay(), png(drawn.as_raw(), width, height, ExtendedColorType::Rgb8)?));
    files.push((names.json(), json.to_vec()));
    Ok(files)
}

/// One line an expression, on standard output unless JSON goes there; notices on standard error.
fn tell(done: &Done, json_on_stdout: bool) -> Result<()> {
    let Done { document, written, .. } = done;
    for (index, prediction) in document.predictions.iter().enumerate() {
        for notice in &prediction.notices {
            tell!("notice: expression {}: {notice}", index + 1);
        }
    }
    if json_on_stdout {
        return Ok(());
    }
    let mut text = String::new();
    for (index, p) in document.predictions.iter().enumerate() {
        let place = match p.bounding_box {
            Some([x, y, w, h]) => format!("found at {x},{y}, {w}x{h}"),
            None => "nothing found".to_owned(),
        };
        text += &format!(
            "{:>3}  {:<34} {place}, {} pixels, score {:.3}, {:.0} ms\n",
            index + 1,
            texts::short(&p.expression),
            p.area,
            p.score,
            p.milliseconds
        );
    }
    for path in written {
        text += &format!("wrote {}\n", path.display());
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn parse_share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a number from 0 to 1".to_owned()),
    }
}
