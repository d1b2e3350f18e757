//! A run as one HTML file that can be mailed: numbers against targets, tables, curves, a gallery of
//! masks, configuration, environment and the commands that repeat it. No scripts, no other files.

mod curves;
pub(crate) mod data;
mod gallery;
mod page;
mod tables;

use std::path::Path;

use anyhow::Result;

use crate::file;

pub(crate) use data::ReportData;
pub(crate) use page::STYLE;

/// The page as HTML text.
///
/// # Errors
/// If a chart cannot be drawn.
pub(crate) fn render(data: &ReportData) -> Result<String> {
    page::render(data)
}

/// Writes the page to `path`; a reader never sees half a file.
///
/// # Errors
/// If a chart cannot be drawn or the file not written.
pub(crate) fn write(data: &ReportData, path: &Path) -> Result<()> {
    save(path, &render(data)?)
}

/// Writes a page or another text, making its folder; a reader never sees half a file. What is there is replaced if it begins
/// alike: a picture is not.
///
/// # Errors
/// If the file cannot be written, or holds something else.
pub(crate) fn save(path: &Path, text: &str) -> Result<()> {
    let first = text.bytes().find(|byte| !byte.is_ascii_whitespace()).unwrap_or(b'<');
    file::keep_others(path, first)?;
    file::save(path, text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::data::samples;
    use super::*;

    #[test]
    fn page_is_self_contained() {
        let html = render(&samples::full()).unwrap();
        for outside in ["http://", "src=\"/", "<script", "<link", "@import", "url(\"http"] {
            let found = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "page refers to the outside: {outside}");
        }
        assert!(html.contains("data:image/png;base64,"));
    }

    #[test]
    fn sentences_are_escaped() {
        let mut data = samples::full();
        data.gallery[0].cards[0].sentence = "<b>the & \"red\"</b> circle".to_owned();
        let html = render(&data).unwrap();
        assert!(html.contains("&lt;b&gt;the &amp; &quot;red&quot;&lt;/b&gt; circle"));
    }

    #[test]
    fn empty_run_still_renders() {
        let html = render(&ReportData::default()).unwrap();
        assert!(html.contains("</html>"));
    }

    #[test]
    fn written_file_replaces_the_old_one_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        std::fs::write(&path, "<html>old").unwrap();
        write(&samples::full(), &path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("<!DOCTYPE html>"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&path, b"\x89PNG").unwrap();
        assert!(write(&samples::full(), &path).is_err(), "a picture was replaced");
    }
}
