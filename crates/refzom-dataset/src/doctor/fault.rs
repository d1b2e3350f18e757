//! What can be wrong with a data set: how grave it is, what it is called, and what to do about it.

use serde::Serialize;

/// How grave a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training stops, loses records, or learns what it is tested on.
    Error,
    /// Training goes on, but probably not as it was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// A record the reader could not make sense of.
    BadRecord,
    /// An image id without an entry among the images.
    MissingImageEntry,
    /// The image file does not exist.
    MissingImageFile,
    /// The image's name leads out of the image folder.
    UnsafeImageName,
    /// The image's announced size is empty or beyond all limits.
    BadImageSize,
    /// The image is empty, cut short, damaged, or neither PNG nor JPEG.
    UnreadableImage,
    /// The image has another size than announced.
    ImageSizeDiffers,
    /// Two images of one id.
    DuplicateImageId,
    /// Two annotations of one id.
    DuplicateAnnotationId,
    /// An annotation id without annotation.
    MissingAnnotation,
    /// The annotation lies in another image.
    AnnotationOfOtherImage,
    /// An outline that cannot be drawn.
    BadOutline,
    /// A mask file that is missing, no PNG, or of another size than its image.
    BadMaskFile,
    /// A target without a pixel: its outlines lie outside the image, or enclose nothing.
    EmptyMask,
    /// A record without a sentence.
    NoSentence,
    /// A sentence without a word.
    EmptyExpression,
    /// A sentence beyond all length.
    EndlessExpression,
    /// A split that training asks for, without a usable record.
    EmptySplit,
    /// Splits of names that nobody asks for, and none to train on.
    NoTrainSplit,
    /// One image in a split to train on and in one to test on.
    SplitLeak,
    /// One picture under two names, in a split to train on and in one to test on.
    HiddenLeak,
    /// An image to train on that another data set tests on.
    LeakAgainst,
    /// One object of several without a pixel.
    EmptyPart,
    /// An outline that reaches out of the image.
    MaskOutside,
    /// A polygon whose last point has one coordinate only.
    OddPolygon,
    /// A record that says "nothing is meant" but names annotations.
    ZeroWithTarget,
    /// A record that says "something is meant" but names no annotation.
    TargetWithoutAnnotation,
    /// One sentence about one image, twice, with different targets.
    Contradiction,
    /// A sentence that the model sees only the beginning of.
    CutExpression,
    /// Two records of one id.
    DuplicateReferenceId,
    /// Two sentences of one id.
    DuplicateSentenceId,
    /// A record's list of sentence ids is not that of its sentences.
    SentenceIdsDiffer,
    /// A split that nobody asks for.
    UnknownSplit,
    /// A `source` that looks like a misspelt `zero`.
    MisspeltSource,
    /// A `source` nothing is known about.
    UnknownSource,
    /// One sentence about one image, twice, with the same target.
    RepeatedSentence,
    /// Images that no record uses.
    UnusedImage,
}

impl Fault {
    /// How grave it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::BadRecord
            | Self::MissingImageEntry
            | Self::MissingImageFile
            | Self::UnsafeImageName
            | Self::BadImageSize
            | Self::UnreadableImage
            | Self::ImageSizeDiffers
            | Self::DuplicateImageId
            | Self::DuplicateAnnotationId
            | Self::MissingAnnotation
            | Self::AnnotationOfOtherImage
            | Self::BadOutline
            | Self::BadMaskFile
            | Self::EmptyMask
            | Self::NoSentence
            | Self::EmptyExpression
            | Self::EndlessExpression
            | Self::EmptySplit
            | Self::NoTrainSplit
            | Self::SplitLeak
            | Self::HiddenLeak
            | Self::LeakAgainst => Severity::Error,
            Self::EmptyPart
            | Self::MaskOutside
            | Self::OddPolygon
            | Self::ZeroWithTarget
            | Self::TargetWithoutAnnotation
            | Self::Contradiction
            | Self::DuplicateReferenceId
            | Self::DuplicateSentenceId
            | Self::SentenceIdsDiffer
            | Self::UnknownSplit
            | Self::MisspeltSource => Severity::Warning,
            Self::CutExpression
            | Self::UnknownSource
            | Self::RepeatedSentence
            | Self::UnusedImage => Severity::Note,
        }
    }

    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadRecord => "record that cannot be used",
            Self::MissingImageEntry => "image id without an image entry",
            Self::MissingImageFile => "image file missing",
            Self::UnsafeImageName => "image name leads out of the image folder",
            Self::BadImageSize => "impossible image size",
            Self::UnreadableImage => "image that cannot be read",
            Self::ImageSizeDiffers => "image of another size than announced",
            Self::DuplicateImageId => "image id given twice",
            Self::DuplicateAnnotationId => "annotation id given twice",
            Self::MissingAnnotation => "annotation id without annotation",
            Self::AnnotationOfOtherImage => "annotation of another image",
            Self::BadOutline => "outline that cannot be drawn",
            Self::BadMaskFile => "mask file that cannot be used",
            Self::EmptyMask => "target without a pixel",
            Self::NoSentence => "record without a sentence",
            Self::EmptyExpression => "empty expression",
            Self::EndlessExpression => "expression beyond all length",
            Self::EmptySplit => "split without a usable record",
            Self::NoTrainSplit => "no split \"train\"",
            Self::SplitLeak => "image in train and in a split to test on",
            Self::HiddenLeak => "same picture under two names, in train and in a split to test on",
            Self::LeakAgainst => "train image that another data set tests on",
            Self::EmptyPart => "one of several objects without a pixel",
            Self::MaskOutside => "outline reaches out of the image",
            Self::OddPolygon => "polygon with an odd number of coordinates",
            Self::ZeroWithTarget => "zero-target record with annotations",
            Self::TargetWithoutAnnotation => "targeted record without annotation",
            Self::Contradiction => "same sentence and image, different targets",
            Self::CutExpression => "expression longer than the model reads",
            Self::DuplicateReferenceId => "record id given twice",
            Self::DuplicateSentenceId => "sentence id given twice",
            Self::SentenceIdsDiffer => "sent_ids differ from the sentences' ids",
            Self::UnknownSplit => "split that nobody asks for",
            Self::MisspeltSource => "source that looks like a misspelt \"zero\"",
            Self::UnknownSource => "unknown source",
            Self::RepeatedSentence => "sentence repeated for the same target",
            Self::UnusedImage => "image entry without a record",
        }
    }

    /// What it does, and what to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::BadRecord => "correct the field named, or delete the record; it is left out",
            Self::MissingImageEntry => {
                "use the instances.json that was published with these records, or add the image to it; the records are left out"
            }
            Self::MissingImageFile => {
                "download the image into the image folder, or name the right folder with --images; its records are left out"
            }
            Self::UnsafeImageName => {
                "write file_name relative to the image folder, without `..` and a leading `/`; its records are left out"
            }
            Self::BadImageSize => {
                "correct width and height of the image entry; its records are left out"
            }
            Self::UnreadableImage => {
                "download the image again, or convert it to JPEG or PNG; its records are left out (with data.check_pictures = false, training stops at it)"
            }
            Self::ImageSizeDiffers => {
                "use the original image (not a resized copy), or correct width, height and outlines; its records are left out (with data.check_pictures = false, training stops at it)"
            }
            Self::DuplicateImageId => "give every image its own id; which one counts is chance",
            Self::DuplicateAnnotationId => {
                "give every annotation its own id; which one counts is chance"
            }
            Self::MissingAnnotation => {
                "use the instances.json that was published with these records, or correct ann_id; the records are left out"
            }
            Self::AnnotationOfOtherImage => "correct ann_id or image_id; the records are left out",
            Self::BadOutline => {
                "redraw the annotation: polygons of three points or more, run lengths of the image's size; its records are left out"
            }
            Self::BadMaskFile => {
                "save the mask as a PNG of the image's size under the name given, which counts from the annotation file's folder; its record is left out"
            }
            Self::EmptyMask => {
                "redraw the annotation inside the image, or mark the records as zero-target if nothing is meant; they are left out"
            }
            Self::NoSentence => "add a sentence or delete the record; it is left out",
            Self::EmptyExpression => "write the sentence or delete it; it is left out",
            Self::EndlessExpression => "shorten the sentence; it is left out",
            Self::EmptySplit => "correct the records' faults listed here",
            Self::NoTrainSplit => {
                "rename the split to train on to train, or name it in the configuration (data.train.split)"
            }
            Self::SplitLeak => {
                "move all records of the image into one split; `data split` carves a val split that keeps images whole"
            }
            Self::HiddenLeak => "delete one copy and move its records to the other",
            Self::LeakAgainst => {
                "leave the image out of training, or do not report scores on that test set"
            }
            Self::EmptyPart => "redraw the annotation, or take its id out of ann_id",
            Self::MaskOutside => {
                "check that the outline belongs to this image at this size; what lies outside is cut off"
            }
            Self::OddPolygon => {
                "write x and y of every point; the last number is not drawn, and a number missing in the middle mixes up all that follow"
            }
            Self::ZeroWithTarget => {
                "empty ann_id, or correct source / no_target; it is trained as zero-target"
            }
            Self::TargetWithoutAnnotation => {
                "set source to zero (no_target to true), or add the annotation; it is trained as zero-target"
            }
            Self::Contradiction => {
                "make the sentence tell the targets apart, or merge the records into one with all targets"
            }
            Self::CutExpression => "the model reads the beginning; shorten it if the end matters",
            Self::DuplicateReferenceId => {
                "number the records anew; tools that look records up by id see the last one only"
            }
            Self::DuplicateSentenceId => {
                "number the sentences anew; tools that look sentences up by id see the last one only"
            }
            Self::SentenceIdsDiffer => "write the ids of the sentences, in order, into sent_ids",
            Self::UnknownSplit => "rename the split to train, val, test, testA or testB",
            Self::MisspeltSource => {
                "write exactly `zero`; any other value makes the record a targeted one"
            }
            Self::UnknownSource => "nothing, if the name is yours; only `zero` has a meaning",
            Self::RepeatedSentence => "delete the copy, unless it is meant to weigh more",
            Self::UnusedImage => "nothing; the entry is ignored",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_pictures_are_left_out_not_stopped_at() {
        for fault in [Fault::UnreadableImage, Fault::ImageSizeDiffers] {
            let remedy = fault.remedy();
            assert!(remedy.contains("records are left out (with data.check_pictures"), "{remedy}");
        }
    }
}
