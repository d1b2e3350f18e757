//! From layers of TOML to one configuration: defaults, then a file, then `--set a.b=c`.
//!
//! Layers are merged as tables before anything is typed, so an unknown key is refused whichever layer it is from.

use toml::{Table, Value};

/// Lays `over` on `base`: tables merge key by key, everything else is replaced.
///
/// A table of another kind than the one below replaces it whole: settings of a Swin mean nothing to a ResNet, those of one
/// `preset` nothing to another, and a validation split is a split or a part to `carve`.
pub fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if same_kind(below, &above) => {
                merge(below, above);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn same_kind(below: &Table, above: &Table) -> bool {
    let agree = |key: &str| above.get(key).is_none_or(|value| below.get(key) == Some(value));
    let carves = |table: &Table| table.contains_key("carve");
    let is_split = |table: &Table| table.contains_key("dir") || table.contains_key("split");
    let turns = carves(below) && is_split(above) || is_split(below) && carves(above);
    agree("kind") && agree("preset") && !turns
}

/// One `a.b=c` as the table `{ a = { b = c } }`; `c` is read as TOML, and as text where it is not TOML.
///
/// # Errors
/// When there is no `=`, or a key is empty.
pub fn parse_set(text: &str) -> Result<Table, String> {
    let (path, value) = split(text)?;
    let value = match toml::from_str::<Table>(&format!("value = {value}")) {
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut table = Table::new();
    let mut keys = path.into_iter().rev();
    // `split` never answers with an empty path.
    let last = keys.next().unwrap_or_default();
    table.insert(last, value);
    Ok(keys.fold(table, |inner, key| {
        let mut outer = Table::new();
        outer.insert(key, Value::Table(inner));
        outer
    }))
}

/// Applies one `a.b=c` to `base`; an empty `c` removes the key, so that an optional setting can be unset.
///
/// # Errors
/// When `text` is not of this form.
pub fn apply_set(base: &mut Table, text: &str) -> Result<(), String> {
    let (path, value) = split(text)?;
    if value.is_empty() {
        remove(base, &path);
    } else {
        merge(base, parse_set(text)?);
    }
    Ok(())
}

fn split(text: &str) -> Result<(Vec<String>, &str), String> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| format!("--set {text}: expected KEY=VALUE, as in optimizer.lr=1e-4"))?;
    let path: Vec<String> = path.split('.').map(|key| key.trim().to_owned()).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!(
            "--set {text}: a key is empty; expected KEY=VALUE, as in optimizer.lr=1e-4"
        ));
    }
    Ok((path, value.trim()))
}

fn remove(table: &mut Table, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            table.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

/// The first place where two configurations differ, as `(key, value in a, value in b)`; keys in `ignored` (and all below them)
/// may differ.
pub fn first_difference(
    a: &Table,
    b: &Table,
    ignored: &[&str],
) -> Option<(String, String, String)> {
    differ("", a, b, ignored)
}

fn differ(
    prefix: &str,
    a: &Table,
    b: &Table,
    ignored: &[&str],
) -> Option<(String, String, String)> {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if ignored.contains(&path.as_str()) {
            continue;
        }
        let found = match (a.get(key), b.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => differ(&path, a, b, ignored),
            (a, b) if a == b => None,
            (a, b) => Some((path, show(a), show(b))),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("valid TOML")
    }

    #[test]
    fn values_are_typed_as_in_toml_and_text_needs_no_quotes() {
        for (set, expected) in [
            ("a.b=3", "[a]\nb = 3"),
            ("a.b=1e-4", "[a]\nb = 1e-4"),
            ("a.b=true", "[a]\nb = true"),
            ("a.b=[1, 2]", "[a]\nb = [1, 2]"),
            ("a.b=\"7\"", "[a]\nb = \"7\""),
            ("a.b=runs/x y", "[a]\nb = \"runs/x y\""),
            ("a.b=x = 3\ny = 4", "[a]\nb = \"x = 3\\ny = 4\""),
        ] {
            assert_eq!(parse_set(set).expect(set), table(expected), "{set}");
        }
        assert!(parse_set("a.b").is_err());
        assert!(parse_set(".b=3").is_err());
    }

    #[test]
    fn tables_merge_and_other_kinds_replace() {
        let mut base = table("x = 1\n[m]\nkind = 'swin'\ndepth = 4\n[n]\np = 1\nq = 2");
        merge(&mut base, table("[n]\nq = 3"));
        merge(&mut base, table("[m]\ndepth = 6"));
        assert_eq!(base, table("x = 1\n[m]\nkind = 'swin'\ndepth = 6\n[n]\np = 1\nq = 3"));
        merge(&mut base, table("[m]\nkind = 'resnet'\nlayers = 3"));
        assert_eq!(base["m"], Value::Table(table("kind = 'resnet'\nlayers = 3")));
        for (below, above, whole) in [
            ("preset = 'a'\ndepth = 4", "preset = 'b'", true),
            ("preset = 'a'\ndepth = 4", "preset = 'a'\nwidth = 2", false),
            ("dir = 'd'\nsplit = 'val'", "carve = 0.1", true),
            ("carve = 0.1\nseed = 3", "dir = 'd'\nsplit = 'val'", true),
            ("carve = 0.1\nseed = 3", "carve = 0.2", false),
        ] {
            let mut base = Table::from_iter([("t".into(), Value::Table(table(below)))]);
            merge(&mut base, Table::from_iter([("t".into(), Value::Table(table(above)))]));
            assert_eq!(base["t"] == Value::Table(table(above)), whole, "{below} {above}");
        }
    }

    #[test]
    fn an_empty_value_unsets() {
        let mut base = table("[a]\nb = 1\nc = 2");
        apply_set(&mut base, "a.b=").expect("valid");
        apply_set(&mut base, "z.y=").expect("valid");
        assert_eq!(base, table("[a]\nc = 2"));
    }

    #[test]
    fn the_first_difference_is_named_with_its_full_key() {
        let a = table("out = 'x'\n[a]\nb = 1\n[a.c]\nd = 2");
        let b = table("out = 'y'\n[a]\nb = 1\n[a.c]\nd = 3");
        let found = first_difference(&a, &b, &["out"]).expect("differs");
        assert_eq!(found, ("a.c.d".to_owned(), "2".to_owned(), "3".to_owned()));
        assert_eq!(first_difference(&a, &b, &["out", "a.c"]), None);
    }
}
